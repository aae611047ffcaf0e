"""Whether compiling the network pays, decided once by timing a few updates where a worker would run."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobs.data.sets import Data
from jobs.spec import JobSpec
from jobs.words import duration

if TYPE_CHECKING:
    from ray import ObjectRef

MARGIN = 1.03
"""Speed-ups below this are noise."""
LEAST_S = 120.0
"""Seconds of training in a process below which nothing is tried: compiling anew takes 10 to 60 of them."""
LONGEST_S = 1800.0
"""How long trying it may take, once there is room."""


@dataclass(frozen=True)
class Probe:
    """What a probe saw.

    Attributes:
        plain: images/s of one worker, not compiled.
        compiled: the same, compiled; 0 where it cannot be.
        cost_s: seconds that compiling took.
        trouble: why it cannot be compiled here.
    """

    plain: float
    compiled: float = 0.0
    cost_s: float = 0.0
    trouble: str | None = None

    def pays(self, images: float) -> bool:
        """Whether a process that trains on ``images`` images in all is done sooner if it compiles first."""
        return self.compiled >= MARGIN * self.plain and images / self.compiled + self.cost_s < images / self.plain

    def words(self, images: float) -> str:
        """The decision, for people."""
        if self.trouble is not None:
            return f"compile auto: no, it cannot be done here ({self.trouble})"
        if not self.compiled:
            return f"compile auto: no, {images / self.plain:.0f} s of training a process are too few to try"
        return (
            f"compile auto: {'yes' if self.pays(images) else 'no'}, {self.compiled:,.0f} images/s a worker instead of "
            f"{self.plain:,.0f}, after {self.cost_s:.0f} s of compiling"
        )


def probe(spec: JobSpec, data: Data, images: float) -> Probe:
    """Time the job with and without; in this process, which should have nothing else to do.

    Args:
        spec: the job.
        data: its data, opened.
        images: that a process would train on in all; where that is soon done, only the plain rate is measured.
    """
    from orchestrator.execution.speed import PROBED, images_per_s

    plain = images_per_s(spec.model_copy(update={"compile": False}), data)
    if images / plain < LEAST_S:
        return Probe(plain)
    began = time.monotonic()
    try:
        compiled = images_per_s(spec.model_copy(update={"compile": True}), data)
    except Exception as error:  # torch's compiler, or the C++ compiler that it wants, or the lack of one
        return Probe(plain, trouble=(str(error).strip().splitlines() or [repr(error)])[0])
    updates = min(PROBED + 1, len(data.train) // spec.batch_size)
    return Probe(plain, compiled, max(0.0, time.monotonic() - began - updates * spec.batch_size / compiled))


def decide(
    spec: JobSpec, data: ObjectRef[Data], processes: float, trials: float, tell: Callable[[str, bool], None]
) -> JobSpec:
    """The job with ``compile: auto`` decided; any other is returned as it is.

    Args:
        spec: the job, with ``use_gpu`` decided.
        data: a reference to its opened data.
        processes: among which the training is divided.
        trials: how often the job is trained, about; infinite where that is not known.
        tell: called with the decision.

    Raises:
        ConnectionError: there was no room to try it in ``resources.wait_minutes``, or it does not end.
    """
    if spec.compile != "auto":
        return spec
    import ray
    from ray.exceptions import GetTimeoutError

    images = spec.epochs * len(ray.get(data).train) * trials / processes
    need = spec.resources
    task = ray.remote(num_cpus=need.cpus_per_worker, num_gpus=int(bool(need.use_gpu)), max_calls=1)(_probe)
    timing, wait_s = task.remote(spec.model_dump_json(), data, images), need.wait_minutes * 60 + LONGEST_S
    try:
        seen: Probe = ray.get(timing, timeout=wait_s)
    except GetTimeoutError:
        ray.cancel(timing, force=True)
        raise ConnectionError(
            f"timing the job for compile: auto got no room in the cluster, or no end, in {duration(wait_s)}; free "
            "some, raise resources.wait_minutes, or set compile to true or false"
        ) from None
    tell(seen.words(images), True)
    return spec.model_copy(update={"compile": seen.pays(images)})


def _probe(spec_json: str, data: Data, images: float) -> Probe:
    return probe(JobSpec.model_validate_json(spec_json), data, images if math.isfinite(images) else 1e12)
