"""The best of a search against its base job, on seeds that the search never saw.

The largest of many noisy values is too large: the trial that has it owes some of it to luck. So the best trials and the
base are trained again, and judged on the test split, which steered nothing.
"""

from __future__ import annotations

from typing import Any

from jobs.spec import JobSpec
from tuning.run.history import History
from tuning.run.results import Trial, ranked
from tuning.spec.arms import Arms
from tuning.spec.search import SearchBudget, SearchSpec
from tuning.studies.verdict import METRIC, judged

BASE = "base"
"""Name of the arm that is the search's job as it is."""


def confirm(history: History, top: int, seeds: int) -> tuple[SearchSpec, tuple[str, ...]]:
    """The search that confirms another, and what to know about it.

    Every arm is trained to the job's own length, as the search's winner was; with ``finish: false`` as long as trials.
    Seeds follow the largest that the search used, so asking again asks the same question and gets the same answer.

    Args:
        history: of the search.
        top: trials to confirm, the best by its first objective.
        seeds: of each arm.

    Raises:
        ValueError: no trial can be confirmed.
    """
    spec = history.spec
    assert spec is not None
    if spec.arms is not None:
        raise ValueError(
            f"{spec.name} compares arms on seeds of their own already: orchestrator search report {spec.name}"
        )
    base = spec.base()
    whole, budget = (spec.whole(), SearchBudget()) if spec.finish else (base, spec.budget)
    trials = list(history.trials.values())
    chosen, remarks = _best(spec, base, trials, top)
    used = [seed for trial in trials for name, seed in trial.params.items() if name in ("seed.init", "seed.data")]
    first = 1 + max([base.seed.init, base.seed.data, *used])
    arms: dict[str, Any] = {BASE: {}} | {f"trial {trial.ordinal}": _without_seeds(trial) for trial in chosen}
    given = {name: getattr(spec, name) for name in ("job", "set", "max_concurrent", "gpus_per_trial")}
    goal = spec.goals[0]
    if judged(spec) != METRIC:  # what was searched for is what is confirmed
        given |= {"metric": goal.metric, "mode": goal.mode}
    made = SearchSpec(
        **given,
        name=f"{spec.name[:72]}-confirm",
        arms=Arms(kind="confirm", jobs=arms, seeds=tuple(range(first, first + seeds))),
        budget=SearchBudget(epochs_per_trial=budget.epochs_per_trial),
        logit_cache_mb=spec.logit_cache_mb,
        models_mb=spec.models_mb,
    )
    return made.begun_with(whole), remarks


def _best(spec: SearchSpec, base: JobSpec, trials: list[Trial], top: int) -> tuple[list[Trial], tuple[str, ...]]:
    """The best trials that make different jobs, those that came to their end first."""
    ended = [trial for trial in ranked(trials, spec.goals[0]) if trial.status == "FINISHED"]
    own = [trial for trial in ended if not trial.donors]
    order = [trial for trial in own if not trial.stopped_by] + [trial for trial in own if trial.stopped_by]
    jobs, remarks = [_seedless(base)], list[str]()
    chosen: list[Trial] = []
    for trial in order:
        if len(chosen) == top:
            break
        job = _seedless(spec.trial(_without_seeds(trial), base))
        if job in jobs:
            remarks.append(f"trial {trial.ordinal} is left out, for its job is another arm's")
            continue
        jobs.append(job)
        chosen.append(trial)
        if trial.stopped_by:
            remarks.append(f"trial {trial.ordinal} was stopped early by {trial.stopped_by}; it now runs to its end")
    if len(own) < len(ended):
        remarks.append("trials that took over another's weights are left out: no job repeats them")
    if not chosen:
        raise ValueError(f"{spec.name} has no finished trial to confirm: orchestrator search status {spec.name}")
    if len(chosen) < top:
        remarks.append(f"there are {len(chosen)} trials to confirm, not {top}")
    return chosen, tuple(remarks)


def _without_seeds(trial: Trial) -> dict[str, object]:
    return {name: value for name, value in trial.params.items() if name.split(".")[0] != "seed"}


def _seedless(job: JobSpec) -> JobSpec:
    return job.override({"seed.init": 0, "seed.data": 0})
