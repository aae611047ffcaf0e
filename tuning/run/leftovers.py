"""What trials leave behind: checkpoints that nothing resumes from, and models, of which the best are kept."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from orchestrator.runs import storage
from tuning.run.history import History
from tuning.run.results import Trial, front, ranked
from tuning.spec.objective import Objective

log = logging.getLogger(__name__)
_LOOKS = 10


class Leftovers:
    """Deletes them.

    Args:
        where: ``checkpoint.storage`` of the trials.
        room: bytes that the models may take together; the best one is kept whatever it takes.
    """

    def __init__(self, where: str | None, room: int) -> None:
        self.where, self.room = where, room
        self._models: dict[int, int] = {}
        self._looks: dict[int, int] = {}

    def sweep(self, ended: Sequence[Trial], last: bool) -> None:
        """Delete the checkpoints of trials that have ended, and the models of the worst that there is no room for.

        Each is looked at once, and at the ``last``. A trial that was stopped may still be writing its last checkpoint,
        so it is looked at some more times, unless it is in a storage, where looking takes long.

        Args:
            ended: the trials, best first.
            last: whether nothing writes any more.
        """
        room = self.room
        try:
            for place, trial in enumerate(ended):
                looks = self._looks.get(trial.ordinal, 0)
                if last or looks < (_LOOKS if trial.stopped_by and self.where is None else 1):
                    storage.delete(trial.run, self.where, "checkpoints")
                    self._models[trial.ordinal] = storage.size(trial.run, self.where, "model")
                    self._looks[trial.ordinal] = looks + 1
                room -= self._models[trial.ordinal]
                if place and room < 0 and self._models[trial.ordinal]:
                    storage.delete(trial.run, self.where, "model")
                    self._models[trial.ordinal] = 0
        except ValueError as error:
            log.warning("what trials left behind stays for now: %s", error)


def kept_first(history: History, goals: Sequence[Objective]) -> list[Trial]:
    """The trials and runs that have ended, in the order in which their models are worth keeping."""
    ended = [trial for _, trial in sorted(history.trials.items()) if trial.status != "RUNNING"]
    last = [trial for trial in history.finals.values() if trial.status != "RUNNING"]
    shown = [trial for trial in history.last.values() if trial.status != "RUNNING"]
    winner = [trial for trial in shown if trial is history.last["winner"]]
    best = ranked(ended, goals[0])
    first = front(best, goals) if len(goals) > 1 else []
    return [*{trial.ordinal: trial for trial in (*winner, *first, *best[:1], *shown, *best, *ended, *last)}.values()]
