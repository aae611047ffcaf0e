"""The dry run of a search: trials, what early stopping saves, concurrency, time, memory and disk."""

from __future__ import annotations

import math
import shutil

from jobs import allowed
from jobs.remarks import remarks
from jobs.spec import JobSpec
from jobs.words import byte_size, duration
from orchestrator.execution.speed import images_per_s
from orchestrator.home import home
from tuning.report.board import text
from tuning.run.prepare import PreparedSearch
from tuning.run.sharing import sharing
from tuning.spec.check import check
from tuning.spec.search import SearchSpec
from tuning.spec.space import Choice, Distribution, different, longest

_MANY = 10_000
"""Points of a space beyond which nobody counts them."""


def plan(found: PreparedSearch) -> tuple[dict[str, str], bool]:
    """Lines to print by name, and whether the search fits."""
    from jobs.logits.store import epoch_bytes  # torch

    spec, base, data, needs = found.spec, found.base, found.job.data, found.job.needs
    concurrent, cluster = found.trials.count, found.job.cluster
    memory, asked = allowed.memory(), _memory(found)
    checkpoints = max(1, concurrent) * base.checkpoint.keep * needs.checkpoint
    free = shutil.disk_usage(home()).free
    trials = expected_trials(spec, base) if spec.budget.trials is not None else _certain(spec, base)
    epochs, told = expected_epochs(spec, base, trials)
    whole, winner = (0, 0) if spec.unfinished else (spec.whole().epochs, _longest(spec, spec.whole()))
    size = epoch_bytes(base, len(data.train), len(data.classes))
    shared = sharing(spec, base, stages(spec, base, expected_trials(spec, base)), size)
    models = min(spec.models_mb * 2**20, (expected_trials(spec, base) or math.inf) * needs.checkpoint)
    disk = checkpoints + shared.bytes + models
    problem = found.problem
    if problem is None and not cluster.live:
        problem = _crowded(found)
        if problem is None and disk > free:
            problem = f"disk: free some below {home()}, or lower models_mb or logit_cache_mb"
    logits = f", {byte_size(shared.bytes)} of logits" if shared.bytes else ""
    lines = {
        "space": "; ".join(f"{name}: {_range(axis)}" for name, axis in spec.axes(base).items())
        or (f"{len(spec.arms.jobs)} arms x {len(spec.arms.seeds)} seeds" if spec.arms else ""),
        "trials": f"{trials if trials is not None else 'until the budget is spent'}, "
        f"{_longest(spec, base)} epochs each at most" + _few(spec, base),
        "epochs": told,
        "final": f"winner and base to the job's own {whole} epochs, {whole + winner} more at most, scored on the test "
        "split"
        if whole
        else f"left out: {spec.unfinished}",
        "concurrency": f"{concurrent} at a time: {found.trials.why}",
        "time": _time(found, epochs + winner * max(2, concurrent)),
        "memory": f"{byte_size(needs.worker)} a worker, {byte_size(asked)} of {byte_size(memory)} in all",
        "disk": f"{byte_size(checkpoints)} of checkpoints at a time, at most {byte_size(models)} of models"
        f"{logits}, {byte_size(free)} free",
        "verdict": f"does not fit: {problem}" if problem else "fits",
    }
    if shared.text:
        lines["logits"] = shared.text
    if found.job.deleted:
        lines["tracking"] = found.job.deleted
    for number, note in enumerate(note for note in [*check(spec), *notes(found)] if note != problem):
        lines[f"note {number + 1}"] = note
    return lines, problem is None


def notes(found: PreparedSearch) -> list[str]:
    """What should be said of a search before it is started: of its job, but for what the space varies; of memory."""
    drawn = tuple(f"{name} " for name in found.spec.axes(found.base))
    every = remarks(found.base, found.job.needs.steps, found.job.data.size)
    return [*(note for note in every if not note.startswith(drawn)), *filter(None, [_crowded(found)])]


def _memory(found: PreparedSearch) -> int:
    """Bytes that the trials at a time take."""
    needs = found.job.needs
    return found.trials.count * found.base.resources.most * needs.worker + needs.held


def _crowded(found: PreparedSearch) -> str | None:
    """What is wrong where this machine's memory does not hold the trials at a time."""
    asked, memory = _memory(found), allowed.memory()
    if found.job.needs.cuda or found.job.cluster.live or asked <= memory:
        return None
    count = found.trials.count
    return (
        f"memory: {count} at a time take {byte_size(asked)} of {byte_size(memory)}; lower max_concurrent, "
        "set.resources.workers or batch_size"
    )


def _time(found: PreparedSearch, epochs: float) -> str:
    """How long the search takes, by a short probe here."""
    if found.problem is not None:
        return "not estimated: the search does not fit"
    if found.job.fit.use_gpu and not found.job.needs.cuda:
        return "not estimated: trials run on GPUs, and this machine has none to time one on"
    rate = images_per_s(found.base, found.job.data)
    seconds = epochs * len(found.job.data.train) / rate / max(1, found.trials.count)
    if found.spec.budget.hours is not None:
        seconds = min(seconds, found.spec.budget.hours * 3600)
    return (
        f"about {duration(seconds)}: {rate:,.0f} images/s a trial (a short probe, alone on this machine, without a "
        "teacher), start-up and evaluation not counted"
    )


def expected_epochs(spec: SearchSpec, base: JobSpec, trials: int | None) -> tuple[float, str]:
    """Epochs of all trials together, and how they come about."""
    limit = spec.budget.total_epochs or math.inf
    if trials is None and limit == math.inf:
        return math.inf, f"as many as {spec.budget.hours:g} hours allow"
    if trials is None:
        return limit, f"at most {limit:g}"
    if len(stages(spec, base, trials)) < 2:
        total = min(limit, trials * _longest(spec, base))
        return total, f"{total:g} in all at most"
    passed, parts = 0, []
    for left, epochs in stages(spec, base, trials):
        passed += epochs
        parts.append(f"{left:.0f} to epoch {passed}")
    total, whole = sum(left * epochs for left, epochs in stages(spec, base, trials)), trials * _longest(spec, base)
    few = min(limit, total)
    return few, f"about {few:.0f} of {whole}: {', '.join(parts)} (more where trials arrive late)"


def expected_trials(spec: SearchSpec, base: JobSpec) -> int | None:
    """How many trials there will be, if all goes well; None where only the clock knows."""
    if spec.arms is not None:
        return spec.arms.trials
    total, points = spec.budget.total_epochs, _points(spec, base)
    budget = spec.budget.trials
    if budget is None and total is not None and not spec.searcher.finite:
        budget = max(1, total // _longest(spec, base))
    if points is None or spec.searcher.repeats:
        return budget
    return points if budget is None else min(budget, points)


def _longest(spec: SearchSpec, job: JobSpec) -> int:
    """Epochs of the longest trial."""
    return longest(spec.axes(job), job)


def _points(spec: SearchSpec, base: JobSpec) -> int | None:
    """How many different points the searcher can try; None where there is no end of them."""
    if spec.arms is not None:
        return None
    if spec.searcher.finite:
        return spec.build(base, spec.start_from.points).trials
    return different(spec.axes(base), base.model_dump(mode="json"), spec.budget.trials or _MANY)


def _few(spec: SearchSpec, base: JobSpec) -> str:
    """What to know where the budget has more trials than the space has points."""
    points, budget = _points(spec, base), spec.budget.trials
    if points is None or budget is None or points >= budget:
        return ""
    if spec.searcher.repeats:
        return f"; of {points} different points, so some are tried again: searcher kind grid tries each once"
    return f"; the space has {points} different points, and the search ends after them"


def _certain(spec: SearchSpec, base: JobSpec) -> int | None:
    """How many trials there are in arms, or in a grid without another end; None where it is open."""
    open_end = spec.budget.total_epochs is not None or spec.budget.hours is not None
    listed = spec.arms is not None or (spec.searcher.finite and not open_end)
    return expected_trials(spec, base) if listed else None


def stages(spec: SearchSpec, base: JobSpec, trials: int | None) -> list[tuple[float, int]]:
    """How many trials are expected to train for how many epochs more, stage after stage; empty where trials is None."""
    if trials is None:
        return []
    return spec.scheduler.stages(float(trials), _longest(spec, base))


def _range(axis: Distribution) -> str:
    """What a value is drawn from, such as ``loguniform 0.001 to 1``."""
    ends = list(map(text, axis.ends()))
    if isinstance(axis, Choice):
        return f"one of {', '.join(ends)}"
    return f"{axis.kind} {' to '.join(dict.fromkeys(ends))}"
