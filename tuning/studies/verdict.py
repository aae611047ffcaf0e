"""The verdict on arms: what the questions about them come to on the test split, paired by seed.

It is spoken once, when every run has ended, or a budget, which knows no scores, has ended the search: whoever looks
after each and stops at the first difference finds one too often. Means until then are shown without a judgement.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tuning.run.results import Trial, number
from tuning.spec.arms import FEWEST, Arms
from tuning.spec.search import SearchSpec
from tuning.studies.statistics import MOST_NEEDED, Comparison, compare

METRIC = "test/top1"
JUDGED = {
    METRIC: "test accuracy",
    "test/balanced_accuracy": "test balanced accuracy",
    "test/top5": "test top-5 accuracy",
}
"""What a comparison may be judged by, and how people call it."""
COLUMNS = (
    "arm",
    "test accuracy, %",
    "difference, points",
    "95 % interval, Holm",
    "verdict",
    "against",
    "p, Holm",
    "seeds",
    "seeds needed",
)


@dataclass(frozen=True)
class Row:
    """An arm, and what was asked about it.

    Attributes:
        label: how it is called.
        arm: its name.
        scores: seed -> what is judged, in %.
        against: the arm that it is compared to; None where nothing is asked.
        differences: to that, in points, by pairs.
        found: what the pairs say, in points; None where there is no verdict.
        words: the verdict.
        lost: pairs that are missing since a run failed or was stopped.
    """

    label: str
    arm: str
    scores: dict[int, float]
    against: str | None = None
    differences: tuple[float, ...] = ()
    found: Comparison | None = None
    words: str = ""
    lost: int = 0

    @property
    def at(self) -> str:
        """Of how many pairs the verdict is, where some are missing."""
        pairs = len(self.differences)
        return f" on {pairs} of {pairs + self.lost} seeds, the rest have no score" if self.lost else ""

    @property
    def cells(self) -> list[str]:
        """As :data:`COLUMNS` say."""
        mean, interval, chance, needed = "", "", "", ""
        if got := self.found:
            mean, interval = f"{got.mean:+.2f}", f"{got.low:+.2f} to {got.high:+.2f}"
            chance = f"{got.p:.3f}" if got.p >= 0.001 else "< 0.001"
            needed = "" if got.different or got.needed is None else _many(got.needed)
        scored, seeds = spread(list(self.scores.values())), str(len(self.scores))
        return [self.label, scored, mean, interval, self.words + self.at, self.against or "", chance, seeds, needed]


@dataclass(frozen=True)
class Verdict:
    """What came of all questions.

    Attributes:
        rows: arms that others are compared to, each before those.
        headline: in a sentence.
        notes: what to know beside.
        metric: that is judged, one of :data:`JUDGED`.
    """

    rows: tuple[Row, ...]
    headline: str
    notes: tuple[str, ...]
    metric: str = METRIC

    @property
    def columns(self) -> tuple[str, ...]:
        """:data:`COLUMNS`, with what is judged."""
        return (COLUMNS[0], f"{JUDGED[self.metric]}, %", *COLUMNS[2:])

    @property
    def table(self) -> dict[str, list[Any]]:
        """As MLflow writes a table."""
        return {"columns": list(self.columns), "data": [row.cells for row in self.rows]}

    @property
    def markdown(self) -> str:
        """The same for a document, with the headline and the notes."""
        lines = [f"| {' | '.join(self.columns)} |", f"|{'---|' * len(COLUMNS)}"]
        lines += [f"| {' | '.join(row.cells)} |" for row in self.rows]
        return "\n".join([self.headline, "", *lines, "", *(f"- {note}" for note in self.notes)]).rstrip() + "\n"


def judged(spec: SearchSpec) -> str:
    """What comparisons of a search are judged by: its first objective on the test split where that is a share of
    images, else accuracy."""
    metric = spec.goals[0].metric.replace("val/", "test/", 1)
    return metric if metric in JUDGED else METRIC


def judge(arms: Arms, trials: Sequence[Trial], metric: str = METRIC, over: bool = False) -> Verdict:
    """The verdict on what the trials of these arms scored so far.

    Args:
        arms: what is compared.
        trials: of the search.
        metric: one of :data:`JUDGED`.
        over: no more runs will come, though some never began: the budget is spent.
    """
    scores: dict[str, dict[int, float]] = {arm: {} for arm in arms.jobs}
    notes: list[str] = []
    for trial in trials:
        arm, seed = arms.place(trial.ordinal)
        value = number(trial.values, metric)
        if trial.status == "FINISHED" and math.isfinite(value):
            scores[arm][seed] = 100 * value
        elif trial.status != "RUNNING":
            failed = trial.status == "FAILED"
            why = (
                f"failed ({trial.kind}: {trial.cause})"
                if failed
                else f"has no test score (stopped by {trial.stopped_by})"
            )
            notes.append(f"seed {seed} of {arm} is left out of its pairs, for trial {trial.ordinal} {why}")
    ended = sum(trial.status != "RUNNING" for trial in trials)
    if over and ended < arms.trials:
        notes.append(f"the search was over after {ended} of {arms.trials} runs")
    over = over or ended == arms.trials
    pairs = {
        place: [scores[q.arm][seed] - scores[q.against][seed] for seed in arms.seeds if _both(scores, q, seed)]
        for place, q in enumerate(arms.asked)
    }
    results: dict[str, Comparison] = {}
    if over:
        results = compare({str(place): values for place, values in pairs.items() if len(values) >= FEWEST})
    rows: list[Row] = []
    shown: set[str] = set()
    for place, question in enumerate(arms.asked):
        if question.against not in shown:
            shown.add(question.against)
            if all(row.arm != question.against or row.label != question.against for row in rows):
                rows.append(Row(question.against, question.against, scores[question.against]))
        found = results.get(str(place))
        lost = len(arms.seeds) - len(pairs[place])
        verdict = words(found) if found else f"{len(pairs[place])} pairs are too few" if over else ""
        label = question.label or question.arm
        told = (scores[question.arm], question.against, tuple(pairs[place]), found, verdict, lost if found else 0)
        rows.append(Row(label, question.arm, *told))
    notes += [f"{name} was not tried: {why}" for name, why in arms.left_out.items()]
    headline = _headline(rows) if over else f"No verdict yet: {ended} of {arms.trials} runs have ended."
    return Verdict(tuple(rows), headline, tuple(notes), metric)


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation as people write them."""
    if not values:
        return ""
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return f"{mean:.2f}"
    return f"{mean:.2f} ± {math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)):.2f}"


def _both(scores: dict[str, dict[int, float]], question: Any, seed: int) -> bool:
    return seed in scores[question.arm] and seed in scores[question.against]


def words(found: Comparison) -> str:
    """What a comparison comes to."""
    return ("better" if found.mean > 0 else "worse") if found.different else "no difference seen"


def _many(count: int) -> str:
    return f"{count:,}" if count <= MOST_NEEDED else f"more than {MOST_NEEDED:,}"


def _headline(rows: Sequence[Row]) -> str:
    judged = [row for row in rows if row.found]
    told = [
        f"{row.label} is {row.words} than {row.against} by {abs(row.found.mean):.2f} points{row.at}"
        for row in judged
        if row.found and row.found.different
    ]
    if not judged:
        return "No verdict: too few runs have a score."
    if not told:
        told = ["No difference seen: none of these is told from what it is compared to"]
    elif rest := len(judged) - len(told):
        told.append(f"no difference seen in the other {rest}")
    if few := sum(row.against is not None for row in rows) - len(judged):
        told.append(f"no verdict on {few}, which have too few scores")
    return f"{'; '.join(told)}."
