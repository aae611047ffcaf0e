"""What the two runs at the end of a search say: its winner beside its job as it was, on the test split.

One run each says nothing of other seeds; what chance does on so many test images can be said (:func:`compare_shares`).
A verdict on fresh seeds is that of :mod:`tuning.studies.confirm`.
"""

from __future__ import annotations

import math

from tuning.run.history import History
from tuning.run.results import Trial, number
from tuning.studies.statistics import compare_shares
from tuning.studies.verdict import JUDGED, METRIC, judged, words


def lines(history: History) -> dict[str, str]:
    """What to print of the end of a search, by a word each; empty while no run of its end is decided."""
    spec, final = history.spec, history.final
    assert spec is not None
    if spec.arms is None and spec.finish and spec.unfinished:
        return {"final": f"left out: {spec.unfinished}"}
    if final is None:
        return {}
    if final.why:
        return {"final": f"left out: {final.why}"}
    winner, base, metric = history.last["winner"], history.last["base"], judged(spec)
    found = {
        "winner": f"trial {final.best}, {_told(winner, metric)}",
        "base": f"the job as it was, {_told(base, metric)}",
    }
    ours, theirs = _score(winner), _score(base)
    if winner is base:
        found["final"] = "the winner is the job as it was"
    elif ours is not None and theirs is not None and final.images:
        images = final.images
        got = compare_shares(round(ours * images), round(theirs * images), images)
        said = f"the winner is {words(got)}" if got.different else words(got)
        interval = f"95 % interval {100 * got.low:+.2f} to {100 * got.high:+.2f}"
        found["final"] = f"{said}: {100 * got.mean:+.2f} points on {images} test images ({interval}), one seed each"
        if metric != METRIC:  # of which counts of images say nothing
            gap = 100 * (number(winner.values, metric) - number(base.values, metric))
            found["final"] = f"{gap:+.2f} points of {JUDGED[metric]}, one seed each; in accuracy {found['final']}"
    if (better := chosen(history)) is not None:
        if not winner.donors:  # its weights are partly those of others, so no job repeats it
            found["confirm"] = f"orchestrator search confirm {spec.name}   # fresh seeds, and a verdict"
        found["promote"] = f"orchestrator promote {better.run} --alias champion"
    return found


def chosen(history: History) -> Trial | None:
    """The run at the end of a search that is worth keeping: its winner, but where that is worse in test accuracy, by
    which it was to be judged, its job as it was. None while there is none with a score."""
    final = history.final
    if final is None or final.why:
        return None
    assert history.spec is not None
    winner, base = history.last["winner"], history.last["base"]
    ours, theirs = _score(winner), _score(base)
    if ours is None:
        return None
    if theirs is not None and final.images and judged(history.spec) == METRIC:
        got = compare_shares(round(ours * final.images), round(theirs * final.images), final.images)
        if got.different and got.mean < 0:
            return base
    return winner


def _told(trial: Trial, metric: str) -> str:
    epochs = f"{max(trial.results, default=0)} epochs"
    score = _score(trial)
    if score is not None:
        more = "" if metric == METRIC else f", {metric} {100 * number(trial.values, metric):.2f} %"
        return f"{epochs}: {METRIC} {100 * score:.2f} %{more}   (run {trial.run})"
    if trial.status == "FAILED":
        return f"failed ({trial.kind}): {trial.cause}"
    if trial.stopped_by:
        return f"stopped by {trial.stopped_by} after {epochs}, so it has no test score"
    return f"{epochs} so far   (run {trial.run})"


def _score(trial: Trial) -> float | None:
    value = number(trial.values, METRIC)
    return value if trial.status == "FINISHED" and math.isfinite(value) else None
