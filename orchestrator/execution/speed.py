"""How fast a job trains here, found by a few updates."""

from __future__ import annotations

import math
import statistics
import time
from itertools import pairwise

from jobs.data.sets import Data
from jobs.spec import JobSpec

PROBED, _WARM = 16, 4
"""Updates that are timed at most, and how many of them may be slower."""


def images_per_s(spec: JobSpec, data: Data, limit_s: float = math.inf) -> float:
    """What one worker trains in a second, by a few updates of the real loop's parts in this process.

    Args:
        spec: the job; its teacher and its pretrained weights are left out.
        data: its data, opened, or some that looks alike.
        limit_s: seconds after the first update from which on no further one is begun; two are always made.
    """
    import torch

    from jobs import precision
    from jobs.batch import At
    from jobs.data.loader import Loader
    from jobs.place import Place
    from jobs.run import Run
    from jobs.train import one_hot

    place = Place.current(None if spec.resources.use_gpu == "auto" else spec.resources.use_gpu)
    spec = precision.resolve(spec.override({"resources.workers": 1, "distillation": None}), place.device)
    spec = spec.model_copy(update={"model": spec.model.architecture()})  # what the weights are makes no difference
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, int(spec.resources.cpus_per_worker)))
    try:
        steps = spec.steps(len(data.train))
        run = Run(spec, data, place, steps, {})
        began, ends = time.monotonic(), list[float]()
        for step, parts in Loader(spec, data, place, steps).epoch(0, 0):
            for part, x, labels in parts:
                y = one_hot(labels, len(data.classes), x.dtype)
                with run.autocast():
                    terms = run.objective(run.trained(x), x, y, At(0, step, part, spec.epochs, steps.total))
                run.scaler.scale(terms[0]).backward()
            run.update(run.lr)
            if place.device.type == "cuda":
                torch.cuda.synchronize()
            ends.append(time.monotonic())
            if len(ends) > PROBED or (len(ends) > 1 and ends[-1] - ends[0] > limit_s):
                break
        took = [after - before for before, after in pairwise([began, *ends])]
        return spec.batch_size / statistics.median(took[min(_WARM, len(took) // 2) :])  # another program may interfere
    finally:
        torch.set_num_threads(threads)
