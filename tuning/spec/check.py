"""What is wrong with a search, found before anything starts: every problem at once, in the words of the job's spec."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import combinations, islice
from typing import Any

from pydantic import ValidationError

from jobs.distillation import JobTeacher
from jobs.spec import Elastic, JobSpec
from jobs.specfile import read
from jobs.specfile.cures import guess_name
from jobs.specfile.errors import Problem, SpecError, findings
from jobs.specfile.schema import Shape, shown
from jobs.words import suggestion
from tuning.spec.search import SearchSpec
from tuning.spec.space import active, changed, holds, longest, look_up, same

_BRANCHES = 64
"""Ways to open a name's branch that are looked at."""
_OWN = ("name", "tracking", "resources")
"""Fields that belong to the search as a whole."""


def check(search: SearchSpec) -> tuple[str, ...]:
    """Validate both ends of every range on the job, alone and two together, in all branches, and the rest.

    Returns:
        remarks: what is allowed but probably not intended.

    Raises:
        SpecError: something is wrong; everything at once, by dotted names, in the job's own words.
    """
    found = _Check(search)
    found.names()
    found.ends()
    found.pairs()
    found.points()
    found.arms()
    found.plan()
    if found.problems:
        raise SpecError(found.problems)
    return tuple(found.remarks)


def check_data(search: SearchSpec, samples: int) -> None:
    """Try the ends of every range, the start points and the arms on the training split, once its size is known.

    Raises:
        SpecError: some of them do not fit it.
    """
    found = _Check(search)
    for collect in (found.names, found.ends, found.pairs, found.points, found.arms):
        collect()
    seen: set[str] = set()
    for source, job in found.jobs:
        if job.data != found.base.data:
            continue
        try:
            job.steps(samples)
        except ValueError as error:
            if str(error) not in seen:  # alone, and not again beside every other name
                seen.add(str(error))
                found.add(source, str(error))
    if found.problems:
        raise SpecError(found.problems)


def students(search: SearchSpec) -> list[JobSpec]:
    """A job for each teacher that is a job itself, of those that the space, the start points and the arms name."""
    found = _Check(search)
    for collect in (found.names, found.ends, found.points, found.arms):
        collect()
    taught = {}
    for _, job in found.jobs:
        if job.distillation is not None and isinstance(teacher := job.distillation.teacher, JobTeacher):
            taught[teacher.model_dump_json()] = job
    return list(taught.values())


class _Check:
    def __init__(self, search: SearchSpec) -> None:
        self.search = search
        self.base = search.base()
        self.space = search.axes(self.base)
        self.data = self.base.model_dump(mode="json")
        self.shape = Shape.of(JobSpec)
        self.known = {name.dotted for name in self.shape.names}
        self.inner = {prefix for name in self.known for prefix in _prefixes(name)}
        self.problems: list[Problem] = []
        self.remarks: list[str] = []
        self.reported: set[tuple[str, str]] = set()
        self.sound: list[str] = []
        """Names of the space without a problem of their own."""
        self.jobs: list[tuple[str, JobSpec]] = []
        """What was tried and is a job: where it came from, and the job."""
        self.teachers: set[str] = set()
        self._teacher(self.data, "job")

    def add(self, source: str, what: str, *cures: str) -> None:
        """Note a problem, once for both ends of a range."""
        place = (source.partition(" at ")[0], what)
        if place in self.reported:
            return
        self.reported.add(place)
        self.problems.append(Problem(what, "", source, cures=tuple(filter(None, cures))))

    def names(self) -> None:
        """Names that do not exist, are set as well, or are decided too late."""
        places = {name: place for place, name in enumerate(self.space)}
        for name, distribution in self.space.items():
            for other in (name, *distribution.when):
                if not self._exists(other):
                    where = f"space.{name}" if other == name else f"space.{name}.when"
                    self.add(where, f"there is no {other}", guess_name(self.shape, other))
            if name.split(".")[0] in _OWN:
                self.add(f"space.{name}", f"{name} is the same for all trials", "change it with set")
            if name == "epochs" and self.search.budget.epochs_per_trial is not None:
                cure = "leave one of them out: -s budget.epochs_per_trial=null"
                self.add(f"space.{name}", "budget.epochs_per_trial sets epochs as well", cure)
            if name in self.search.set:
                cure = f"leave one of them out: -s 'space.{name}={{kind: fixed, value: ...}}' is one for all"
                self.add(f"space.{name}", f"{name} is in set as well", cure)
            for other in distribution.when:
                late = [axis for axis in places if _decides(axis, other) and places[axis] >= places[name]]
                if late:
                    cure = f"move {late[0]} up" if late[0] != name else "leave the condition out"
                    self.add(f"space.{name}.when", f"{other} is drawn only after {name}", cure)

    def ends(self) -> None:
        """Each end of each range by itself, in every branch where it is drawn."""
        for name, distribution in self.space.items():
            if not all(map(self._exists, (name, *distribution.when))):
                continue
            branches = self._branches(name)
            if not branches:
                when = ", ".join(f"{other}: {shown(wanted)}" for other, wanted in distribution.when.items())
                self.remarks.append(f"{name} is never drawn, since nothing makes its condition hold ({when})")
            before = len(self.problems)
            for branch in branches:
                for end in distribution.ends():
                    self._try(f"space.{name} at {shown(end)}", {**branch, name: end}, self._absent(name))
            if branches and len(self.problems) == before:
                self.sound.append(name)

    def pairs(self) -> None:
        """Ends of two names together, for what fits alone but not with another."""
        for names in combinations(self.sound, 2):
            one, other = (self.space[name] for name in names)
            branches = [{**a, **b} for a in self._branches(names[0]) for b in self._branches(names[1])]
            for branch in branches[:_BRANCHES]:
                for a in one.ends():
                    for b in other.ends():
                        drawn = {**branch, names[0]: a, names[1]: b}
                        if set(drawn) <= set(active(self.space, self.data, drawn)):
                            self._try(f"space.{names[0]} at {shown(a)} with {names[1]} at {shown(b)}", drawn)

    def points(self) -> None:
        """The start points."""
        for place, point in enumerate(self.search.start_from.points):
            source = f"start_from.points[{place}]"
            before = len(self.problems)
            for name, value in point.items():
                if name not in self.space:
                    cure = suggestion(name, self.space, f"space has {', '.join(self.space)}", 1)
                    self.add(source, f"{name} is not in space", cure)
                elif not self.space[name].contains(value):
                    self.add(source, f"{name} {shown(value)} is outside of space.{name}")
            if len(self.problems) == before:
                drawn = active(self.space, self.data, point)
                for name in sorted(set(point) - set(drawn)):
                    self.add(source, f"{name} is not drawn there: its condition does not hold", "leave it out")
                self._try(source, {name: value for name, value in point.items() if name in drawn})
                before_it = self.search.start_from.points[:place]
                twice = next((at for at, other in enumerate(before_it) if same(other, point)), None)
                if twice is not None and set(drawn) <= set(point):
                    self.add(source, f"it is the same as start_from.points[{twice}]", "leave one of them out")

    def arms(self) -> None:
        """The jobs of arms."""
        for arm, changes in self.search.arms.jobs.items() if self.search.arms else ():
            source = f"arms.jobs.{arm}"
            before = len(self.problems)
            for name in changes:
                if not self._exists(name):
                    self.add(source, f"there is no {name}", guess_name(self.shape, name))
                elif name.split(".")[0] in (*_OWN, "seed"):
                    cure = "arms.seeds has the seeds" if name.split(".")[0] == "seed" else "change it with set"
                    self.add(source, f"{name} is the same for all trials", cure)
            if len(self.problems) == before:
                self._try(source, changes)

    def plan(self) -> None:
        """Searcher, scheduler and budget."""
        budget, epochs = self.search.budget, longest(self.space, self.base)
        if isinstance(self.base.resources.workers, Elastic):
            alone = (
                self.search.arms is not None and self.search.arms.kind == "ablation"
            )  # which has no file to set it in
            cure = f"{'-s resources.workers=' if alone else 'set.resources.workers: '}{self.base.resources.most}"
            self.add("job", "a search fills the cluster with trials, so none of them is elastic", cure)
        search, names = self.search, [name.split(".")[0] for name in self.space]
        for goal in search.goals:
            if goal.metric.startswith("train/loss_") and not self.base.distillation and "distillation" not in names:
                self.add("metric", f"only a job with a teacher has {goal.metric}", "take val/loss")
        for problem in search.scheduler.problems(self.base, self.space, budget.trials, search.searcher):
            self.add(*problem)
        evaluated = self.base.evaluation.every_epochs
        if flaw := self.search.scheduler.flaw(epochs):
            self.add("scheduler", flaw)
        elif self.search.scheduler.flaw((epochs - 1) // evaluated * evaluated + 1):
            flaw = f"evaluation.every_epochs {evaluated} leaves none of the {epochs} epochs of a trial to judge it at"
            self.add("scheduler", f"{flaw}, so nothing is stopped", "lower set.evaluation.every_epochs")
        if budget.total_epochs is not None and budget.total_epochs < epochs:
            self.add("budget", f"total_epochs {budget.total_epochs} is less than the {epochs} epochs of one trial")
        if budget.trials is not None and budget.trials < (points := len(self.search.start_from.points)):
            self.add("budget", f"trials {budget.trials} is less than the {points} start points")
        try:
            self.search.build(self.base)
        except ValueError as error:
            self.add("searcher", str(error))

    def _try(self, source: str, changes: Mapping[str, Any], *cures: str) -> None:
        """Validate the job with changes; the ``cures`` are for what is missing."""
        data: dict[str, Any] = self.data
        try:
            data = changed(self.data, changes)
            self.jobs.append((source, JobSpec.model_validate(data)))
        except ValidationError as error:
            for finding in findings(self.shape, data, error.errors(include_url=False)):
                found = self.search.cures(finding.what, finding.cures)
                self.add(source, finding.what, *found, *(cures if finding.at == "parent" else ()))
        except ValueError as error:
            self.add(source, str(error), *cures)
        else:
            self._teacher(data, source)

    def _teacher(self, data: Mapping[str, Any], source: str) -> None:
        """Read the job of a teacher, each once."""
        teacher = look_up(data, "distillation.teacher")
        if not teacher or teacher["kind"] != "job" or (key := json.dumps(teacher, sort_keys=True)) in self.teachers:
            return
        self.teachers.add(key)
        job = JobTeacher.model_validate(teacher)
        try:
            read(job.job, JobSpec, job.set)
        except SpecError as error:
            self.add(source, f"distillation.teacher.job: {error}")

    def _exists(self, name: str) -> bool:
        """Whether a job can have the name; any name will do in a mapping whose keys are free."""
        return name in self.known or any(
            prefix in self.known and prefix not in self.inner and isinstance(look_up(self.data, prefix), dict)
            for prefix in _prefixes(name)
        )

    def _absent(self, name: str) -> str:
        """The cure for a field of something that the job has not."""
        missing = next((prefix for prefix in _prefixes(name) if look_up(self.data, prefix) is None), "")
        if not missing or self.space[name].when:
            return ""
        return f"the job has no {missing}: set one, or draw {name} only with one: `when: {{{missing}: present}}`"

    def _branches(self, name: str) -> list[dict[str, Any]]:
        """What must have been drawn for a name to be drawn, in every way that the ends of the names before it allow."""
        found: list[dict[str, Any]] = [{}]
        for condition, wanted in self.space[name].when.items():
            ways = (way for drawn in found for way in self._ways(name, condition, wanted, drawn))
            found = list(islice(ways, _BRANCHES))
        return found

    def _ways(self, name: str, condition: str, wanted: Any, drawn: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if holds({condition: wanted}, changed(self.data, drawn)):
            yield drawn
        before = list(self.space)[: list(self.space).index(name)]
        for axis in before:
            if axis in drawn or not (_decides(axis, condition) or _decides(condition, axis)):
                continue
            for outer in self._branches(axis):
                for end in self.space[axis].ends():
                    more = {**drawn, **outer, axis: end}
                    if holds({condition: wanted}, changed(self.data, more)):
                        yield more


def _prefixes(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts))]


def _decides(axis: str, name: str) -> bool:
    """Whether drawing ``axis`` sets ``name``."""
    return f"{name}.".startswith(f"{axis}.")
