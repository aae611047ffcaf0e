"""How fast a job trains here, found by a few updates."""

from __future__ import annotations

import math
import statistics
import time
from contextlib import closing
from itertools import pairwise

from jobs.data.sets import Data
from jobs.spec import JobSpec

PROBED, _WARM = 16, 4
"""Updates that are timed at most, and the number of them that may be slower."""


def images_per_s(spec: JobSpec, data: Data, limit_s: float = math.inf) -> float:
    """What one worker trains in a second, by a few updates as the loop makes them, in this process.

    Args:
        spec: the job; without its teacher and its pretrained weights.
        data: its data, opened, or some that looks alike.
        limit_s: no update begins later than so many seconds after the first one; two are always made.
    """
    import torch

    from jobs import precision
    from jobs.backward import backward
    from jobs.data.loader import Loader
    from jobs.place import Place
    from jobs.run import Run

    place = Place.current(None if spec.resources.use_gpu == "auto" else spec.resources.use_gpu)
    spec = precision.resolve(spec.override({"resources.workers": 1, "distillation": None}), place.device)
    spec = spec.model_copy(update={"model": spec.model.architecture()})  # what the weights are makes no difference
    threads = torch.get_num_threads()
    torch.set_num_threads(spec.resources.threads)
    try:
        steps, ends = spec.steps(len(data.train)), list[float]()
        with precision.backends(spec, place.device), closing(Loader(spec, data, place, steps)) as loader:
            run, began = Run(spec, data, place, steps, {}), time.monotonic()
            for _, parts in loader.epoch(0, 0):
                for part, x, labels in parts:
                    backward(run, part, x, labels, len(data.classes))
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
