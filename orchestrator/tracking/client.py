"""The typed client of the recorder's actor, for drivers and workers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.lock import Locked
from jobs.report import Progress, Record, Verdict

if TYPE_CHECKING:
    from ray import ObjectRef

    from orchestrator.tracking.state import State, Status


ANSWER_S = 300.0
"""How long the recorder may take for anything but shipping: it only writes to a disk."""
_ONCE_MORE_S = 30.0
"""A process that was stopped itself (Ctrl-Z) finds its time over, and the answer on its way."""


class RecorderClient:
    """Calls :class:`orchestrator.tracking.recorders.Recorders`, whose methods say what each call does.

    It may be pickled, so workers get a copy. Calls of one process are carried out in order, whether they wait or not.
    What has no result can be sent without waiting (``wait=False``); an error there is only logged by Ray.

    Args:
        actor: handle of the actor; Ray does not type its methods, so this class does.
    """

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def begin(
        self,
        run: str,
        experiment: str,
        uri: str | None = None,
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
        parent: str | None = None,
        meanwhile: Callable[[], object] = lambda: None,
    ) -> State:
        """Open a run or resume it; what is recorded of it so far. ``meanwhile`` is called while the recorder works.

        Raises:
            Locked: another process records it.
        """
        begun = self._actor.begin.remote(run, experiment, uri, params, tags, parent)
        meanwhile()
        try:
            state: State = _get(begun)
        except Locked as error:  # of Ray's, with the actor's whole traceback as its text
            raise Locked(f"run {run} is running already: {getattr(error, 'cause', error)}") from None
        return state

    def record(self, run: str, records: Sequence[Record]) -> None:
        """Send records; never waits."""
        self._actor.record.remote(run, list(records))

    def progress(self, run: str, progress: Progress) -> ObjectRef[Verdict]:
        """Send progress; never waits. The reference is to the verdict."""
        verdict: ObjectRef[Verdict] = self._actor.progress.remote(run, progress)
        return verdict

    def tag(self, run: str, key: str, value: str, *, wait: bool = True) -> None:
        """Set a tag of a run."""
        _send(self._actor.tag.remote(run, key, value), wait)

    def artifact(self, run: str, path: str | Path, to: str = "", *, wait: bool = True) -> None:
        """Add a file, or the files of a folder, to a run's artifacts."""
        _send(self._actor.artifact.remote(run, path, to), wait)

    def warn(self, run: str, text: str) -> None:
        """Warn whoever watches the driver, and tag the run with it; never waits."""
        self._actor.warn.remote(run, text)

    def warnings(self, seen: int = 0) -> list[tuple[str, str]]:
        """Run and text of the warnings since the first ``seen``."""
        warnings: list[tuple[str, str]] = _get(self._actor.warnings.remote(seen))
        return warnings

    def stop(self, run: str | None = None) -> None:
        """Stop the loop of a run, or every one, at its next report; never waits."""
        self._actor.stop.remote(run)

    def pause(self, run: str) -> None:
        """Pause the loop of a run at its next report; never waits."""
        self._actor.pause.remote(run)

    def unpause(self, run: str) -> None:
        """Let the loop of a paused run start again."""
        _send(self._actor.unpause.remote(run), True)

    def state(self, run: str, seen: int = 0) -> State:
        """What to show of a run, with the records that are new since ``seen``."""
        state: State = _get(self._actor.state.remote(run, seen))
        return state

    def end(self, run: str, status: Status, last: bool = False, *, wait: bool = True) -> None:
        """Close a run as FINISHED, FAILED or KILLED."""
        _send(self._actor.end.remote(run, status, last), wait)

    def close(self, wait_s: float = 30.0) -> int:
        """Ship what is left, for at most ``wait_s``; the number of events that MLflow lacks."""
        behind: int = _get(self._actor.close.remote(wait_s), ANSWER_S + wait_s)
        return behind

    def kill(self) -> None:
        """End the actor's process."""
        import ray

        ray.kill(self._actor)


def _get(reference: Any, wait_s: float | None = None) -> Any:
    """The answer of the recorder.

    Raises:
        ConnectionError: there is none in time.
    """
    import ray
    from ray.exceptions import GetTimeoutError

    for seconds in (ANSWER_S if wait_s is None else wait_s, _ONCE_MORE_S):
        with contextlib.suppress(GetTimeoutError):
            return ray.get(reference, timeout=seconds)
    raise ConnectionError(
        f"the recorder of this run (process ray::Recorders) has not answered for {ANSWER_S:g} s: it was stopped, or "
        "the disk of ORCHESTRATOR_HOME stands still. What it had is in the journal, and the run can be resumed "
        "(orchestrator runs list)"
    )


def _send(reference: Any, wait: bool) -> None:
    if wait:
        _get(reference)
