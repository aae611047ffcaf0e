"""How many of a teacher's answers the trials of a search can expect to read instead of computing them.

Trials that show their teacher the same images share its answers (``jobs.logits.store``), and the first of them
computes. Of T trials that each show sequence k with probability p_k, ``sum_k 1 - (1 - p_k)^T`` differ on average:
``n (1 - (1 - 1/n)^T)`` for n that are equally likely. A searcher that learns draws fewer; trials that start together
read less of each other, since the one that catches up computes side by side with the other.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jobs.logits.key import inputs
from jobs.spec import JobSpec
from jobs.words import byte_size
from tuning.searchers import Method
from tuning.spec.arms import Arms
from tuning.spec.search import SearchSpec
from tuning.spec.space import Choice, Distribution, Fixed, Integers, Space, changed, holds

_LARGEST = 512
"""Different sequences that are told apart; with more of them, nearly nothing is shared."""
_UNSEEN = {"cache_gb", "class_weights", "loader_workers", "max_corrupt"}
"""What a data source can be told that does not change the images in training."""


@dataclass
class Sequences:
    """Which sequences of images trials show their teachers.

    Attributes:
        likely: sequence -> probability that a trial shows it.
        alone: probability that a trial shows one that no other shows.
        names: of the space, that decide.
        endless: those among them with no end of values.
    """

    likely: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    alone: float = 0.0
    names: dict[str, None] = field(default_factory=dict)
    endless: dict[str, Distribution] = field(default_factory=dict)

    @property
    def taught(self) -> float:
        """Probability that a trial has a teacher."""
        return self.alone + sum(self.likely.values(), 0.0)

    def different(self, trials: float) -> float:
        """Expected number of different sequences among so many trials."""
        return trials * self.alone + sum(1 - math.pow(1 - min(1.0, p), trials) for p in self.likely.values())


@dataclass(frozen=True)
class Sharing:
    """What is shared.

    Attributes:
        share: of a teacher's forward passes, that is read.
        bytes: that are kept at most.
        text: the same for people; empty where no trial has a teacher.
    """

    share: float
    bytes: int
    text: str


def sharing(spec: SearchSpec, base: JobSpec, stages: Sequence[tuple[float, int]], epoch_bytes: int) -> Sharing:
    """What the trials of a search are expected to share.

    Args:
        spec: the search.
        base: its job.
        stages: (trials, epochs that each of them trains further), one after the other; none where their number is not
            known.
        epoch_bytes: what the answers of an epoch take.
    """
    if spec.arms is not None:
        return _of_arms(spec.arms, spec.logit_cache_mb, base, epoch_bytes)
    seen = sequences(spec.axes(base), base, spec.searcher)
    limit = spec.logit_cache_mb * 2**20
    if not seen.taught:
        return Sharing(0.0, 0, "")
    if not limit:
        return Sharing(0.0, 0, "0 % of a teacher's answers are shared: logit_cache_mb is 0")
    cures = [
        f"{name} {'has many values' if isinstance(axis, Integers) else 'is continuous'}; make it a choice"
        for name, axis in seen.endless.items()
    ]
    if not seen.likely:
        return Sharing(0.0, 0, f"0 %: {', '.join(cures)}")
    if not stages:
        told = f"of each of {len(seen.likely)} different inputs all trials but the first read"
        return Sharing(0.0, limit, "; ".join([f"{told} the teacher's answers", *cures]))
    passes = seen.taught * sum(trials * epochs for trials, epochs in stages)
    computed = sum(seen.different(trials) * epochs for trials, epochs in stages)
    share, size = max(0.0, 1 - computed / passes), computed * epoch_bytes
    why = f"{seen.different(stages[0][0]):.3g} different inputs in {seen.taught * stages[0][0]:.0f} trials"
    parts = [f"{why} ({', '.join(seen.names)})" if seen.names else "all trials see the same images", *cures]
    if size > limit:
        share *= limit / size
        parts.append(f"they take {byte_size(size)}: raise logit_cache_mb")
    told = f"{100 * share:.0f} % of the teacher's forward passes are expected to be read instead"
    return Sharing(share, int(min(size, limit)), f"{told}: {'; '.join(parts)}")


def _of_arms(arms: Arms, limit_mb: int, base: JobSpec, epoch_bytes: int) -> Sharing:
    data = base.model_dump(mode="json")
    shown = [_shown(data, arms.params(ordinal)) for ordinal in range(arms.trials)]
    taught = [one for one in shown if one and one[0]]
    if not taught:
        return Sharing(0.0, 0, "")
    different = len(set(taught))
    size, limit = different * base.epochs * epoch_bytes, limit_mb * 2**20
    share = (1 - different / len(taught)) * min(1.0, limit / size if size else 1.0)
    told = f"{100 * share:.0f} % of the teacher's forward passes are expected to be read instead"
    return Sharing(share, min(size, limit), f"{told}: {different} different inputs in {len(taught)} trials")


def sequences(space: Space, base: JobSpec, searcher: Method) -> Sequences:
    """Every sequence that the space can make.

    Args:
        space: of the search.
        base: its job.
        searcher: of the search.
    """
    data, names, found = base.model_dump(mode="json"), list(space), Sequences()
    conditions = {condition for axis in space.values() for condition in axis.when}

    def below(place: int, drawn: dict[str, Any], probability: float, deciding: dict[str, bool]) -> None:
        if place == len(names):
            teacher, sequence = _shown(data, drawn) or ("", "")
            if not teacher:
                return
            found.names.update(dict.fromkeys(deciding))
            found.endless.update({name: space[name] for name, few in deciding.items() if not few})
            if not all(deciding.values()) or len(found.likely) >= _LARGEST:
                found.alone += probability
            else:
                found.likely[f"{teacher} {sequence}"] += probability
            return
        name, axis = names[place], space[names[place]]
        if axis.when and not holds(axis.when, changed(data, drawn)):
            below(place + 1, drawn, probability, deciding)
            return
        ends = axis.ends()
        decides = len({_shown(data, {**drawn, name: end}) for end in ends} - {None}) > 1
        values: list[Any] | None = [ends[0]]  # one stands for all that make no difference
        if decides or any(_related(name, other) for other in conditions):
            values = _values(axis, searcher)
        if decides:
            deciding = {**deciding, name: values is not None}
        several = values if values is not None and len(found.likely) < _LARGEST else [ends[0]]
        for value in several:
            below(place + 1, {**drawn, name: value}, probability / len(several), deciding)

    below(0, {}, 1.0, {})
    return found


def _values(axis: Distribution, searcher: Method) -> list[Any] | None:
    """All values that can be drawn; None if there is no end of them."""
    if (values := searcher.values(axis)) is not None:
        return list(values)
    if isinstance(axis, Choice | Fixed):
        return list(axis.ends())
    if isinstance(axis, Integers) and axis.high - axis.low < _LARGEST:
        return list(range(axis.low, axis.high + 1))
    return None


def _shown(data: Mapping[str, Any], drawn: Mapping[str, Any]) -> tuple[str, str] | None:
    """The teacher of a job and what it is shown, as text; None where the names drawn make no job."""
    try:
        job = JobSpec.model_validate(changed(data, drawn))
    except ValueError:
        return None
    source = job.data.model_dump(mode="json", exclude=_UNSEEN)
    teacher = "" if job.distillation is None else job.distillation.teacher.model_dump_json()
    weights = job.model.pretrained and job.model.pretrained.model_dump(mode="json")  # they may say how images look
    return teacher, json.dumps([inputs(job), source, weights, job.resources.cpus_per_worker], sort_keys=True)


def _related(name: str, other: str) -> bool:
    return f"{name}.".startswith(f"{other}.") or f"{other}.".startswith(f"{name}.")
