"""The body of a worker: from what the driver handed over to the loop, and back."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from jobs.report import CONTINUE, STOP, Progress, Record, Verdict
from jobs.spec import JobSpec


class ToRecorder:
    """Sends to the Recorder actor without ever waiting for it, and saves checkpoints.

    Args:
        recorder: handle of the actor.
        url: fsspec URL of the run's checkpoints.
        keep: how many of the newest stay.
    """

    def __init__(self, recorder: Any, url: str, keep: int) -> None:
        from jobs.checkpoint import Store

        self.recorder, self.store = recorder, Store(url, keep)
        self._answer: Any = None
        self._verdict = CONTINUE

    def __call__(
        self,
        records: Sequence[Record] = (),
        checkpoint: Any = None,
        progress: Progress | None = None,
        facts: Mapping[str, str] | None = None,
    ) -> Verdict:
        """Send what is passed; answer with the newest verdict that has come back."""
        import ray

        if checkpoint is not None:
            self.store.save(checkpoint)
        for key, value in (facts or {}).items():
            self.recorder.tag.remote(key, value)
        if records:
            self.recorder.record.remote(list(records))
        if progress is not None and self._answer is None:
            self._answer = self.recorder.progress.remote(progress)
        if self._answer is not None and ray.wait([self._answer], timeout=0)[0]:
            self._verdict = ray.get(self._answer)
            self._answer = None
        return STOP if self._verdict is STOP else CONTINUE

    def close(self) -> None:
        """Wait until every checkpoint is stored."""
        self.store.wait()


def ray_train_worker(config: dict[str, Any]) -> dict[str, Any]:
    """What every Ray Train worker runs; rank 0's answer is the run's.

    Args:
        config: ``spec`` (JSON), ``data`` (a reference to the opened data), ``recorder``, ``folder`` (URL of the run's).
    """
    import ray

    from jobs.outcome import keep_model
    from jobs.place import Place
    from jobs.run import NonFiniteLossError
    from jobs.train import train

    spec = JobSpec.model_validate_json(config["spec"])
    os.environ.setdefault("LOCAL_RANK", str(ray.train.get_context().get_local_rank()))
    place = Place.current(bool(spec.resources.use_gpu))
    if place.rank == 0:
        ray.get(config["recorder"].occupy.remote(ray.util.get_current_placement_group()))
    data = ray.get(config["data"][0])
    assets = {"data": data}
    if spec.distillation is not None:  # the driver has made it a folder
        assets["teacher"] = spec.distillation.teacher.folder(data)
    report = ToRecorder(config["recorder"], f"{config['folder']}/checkpoints", spec.checkpoint.keep)
    start = place.broadcast(report.store.newest() if place.rank == 0 else None)
    if start is not None and place.rank == 0:
        records = [Record(*record) for record in start.tree["records"]]
        ray.get(config["recorder"].record.remote(records))
    try:
        outcome = train(spec, place, report, assets, start)
    except (NonFiniteLossError, ValueError) as error:  # the same again however often it is tried, so not raised
        return {"failure": f"{type(error).__name__}: {error}"}
    report.close()
    answer: dict[str, Any] = {"ended_by": outcome.ended_by, "step": outcome.step}
    if place.rank == 0 and outcome.network is not None and outcome.test is not None:
        keep_model(f"{config['folder']}/model", outcome, data)
        answer["metrics"] = outcome.test.metrics("test")
        answer["confusion"] = None if outcome.test.confusion is None else outcome.test.confusion.numpy()
        ray.get(config["recorder"].state.remote())  # all records sent before have been taken in
    return answer
