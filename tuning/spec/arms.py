"""Arms: a few jobs, each on the same seeds, instead of a space to search; the result is a verdict on each.

Trials go seed by seed, so that whatever ends a search early leaves whole pairs.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from annotated_types import Len
from pydantic import Field, JsonValue, NonNegativeInt, StringConstraints, model_validator

from jobs.base import Spec
from jobs.paths import NamesOf
from jobs.spec import JobSpec
from tuning.searchers import Searcher

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9 _/-]{0,60}$")]
"""Of an arm; MLflow takes it as part of a name."""
FEWEST = 3
"""Pairs that a verdict needs: of two on a small test set, both often differ by as many images."""


OF_JOB = NamesOf(JobSpec)


class Question(Spec):
    """Whether an arm is better than another."""

    arm: str
    """Name of the arm."""
    against: str
    """Name of the arm that it is compared with."""
    label: str = ""
    """Title of the row in tables; empty is the arm's name."""


class Arms(Spec):
    """Jobs to compare on the test split, paired by seed."""

    kind: Literal["arms", "confirm", "ablation"] = "arms"
    """What the comparison is: your own, the best trials of a search against its base, or a recipe without its
    tricks."""
    jobs: dict[Name, Annotated[dict[str, JsonValue], OF_JOB]] = Field(min_length=2)
    """Name of each arm -> its changes to the job by dotted name."""
    seeds: Annotated[tuple[NonNegativeInt, ...], Len(FEWEST)]
    """Every arm is trained once with each of them, as ``seed.init`` and as ``seed.data``."""
    questions: tuple[Question, ...] = ()
    """The comparisons to judge; empty compares each of the other arms with the first."""
    left_out: dict[str, str] = {}  # noqa: RUF012 (pydantic copies defaults)
    """Arms that could not be formed, each with the reason."""

    @property
    def asked(self) -> tuple[Question, ...]:
        """The questions."""
        first, *others = self.jobs
        return self.questions or tuple(Question(arm=arm, against=first) for arm in others)

    @property
    def trials(self) -> int:
        """Number of trials."""
        return len(self.jobs) * len(self.seeds)

    def place(self, ordinal: int) -> tuple[str, int]:
        """Arm and seed of a trial."""
        return list(self.jobs)[ordinal % len(self.jobs)], self.seeds[ordinal // len(self.jobs)]

    def params(self, ordinal: int) -> dict[str, Any]:
        """Parameters of a trial, by dotted name."""
        arm, seed = self.place(ordinal)
        return {**self.jobs[arm], "seed.init": seed, "seed.data": seed}

    def build(self, base: JobSpec) -> Searcher:
        """What is asked for the trials, in place of a searcher."""
        return _Listed(self, base)

    @model_validator(mode="after")
    def _known(self) -> Self:
        if twice := sorted({seed for seed in self.seeds if self.seeds.count(seed) > 1}):
            raise ValueError(f"seeds must differ, but {', '.join(map(str, twice))} appears more than once")
        for question in self.questions:
            for arm in (question.arm, question.against):
                if arm not in self.jobs:
                    raise ValueError(f"a question names {arm!r}, but jobs has {', '.join(self.jobs)}")
        return self


class _Listed(Searcher):
    def __init__(self, arms: Arms, base: JobSpec) -> None:
        super().__init__({}, base, 0, ())
        self.arms = arms

    def _choose(self, ordinal: int) -> dict[str, Any] | None:
        return self.arms.params(ordinal) if ordinal < self.arms.trials else None
