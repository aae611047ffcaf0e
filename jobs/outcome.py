"""What a run came to, and its network kept in a folder."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from jobs.data.sets import Data
from jobs.evaluate import Scores
from jobs.models import save
from jobs.spec import JobSpec


@dataclass(frozen=True)
class Outcome:
    """What a run came to.

    Attributes:
        ended_by: ``epochs``, ``early_stopping``, ``budget``, ``diverged`` (an earlier epoch is kept), or ``stopped``
            (from outside; it can be resumed).
        step: updates done.
        network: the selected weights; None where the run was stopped.
        test: scores on the test split; None where the run was stopped.
        spec: the spec with every ``auto`` of the arithmetic resolved.
        diverged: when and how training diverged, and which epoch is kept.
    """

    ended_by: str
    step: int
    network: torch.nn.Module | None
    test: Scores | None
    spec: JobSpec
    diverged: str | None = None


def keep_model(path: str, outcome: Outcome, data: Data) -> str:
    """Store the network of ``outcome`` with its spec, class names and preprocessing, which ``jobs.models.load`` reads;
    SHA-256 of its tensors' file.
    """
    assert outcome.network is not None
    assert outcome.test is not None
    preprocessing = {
        "size": data.test_size,
        "crop_ratio": data.crop_ratio,
        "channels": data.channels,
        "mean": data.mean,
        "std": data.std,
        "exif_orientation": data.exif_orientation,
        "flip": outcome.spec.evaluation.flip,
    }
    spec = outcome.spec
    scored = {
        "precision": spec.precision,
        "channels_last": spec.channels_last,
        "batch_size": spec.evaluation.batch_size,
        "workers": spec.resources.workers,
    }
    extra = {"metrics": outcome.test.metrics("test"), "scored": scored}
    return save(
        path, outcome.network, spec.model.architecture().model_dump(mode="json"), data.classes, preprocessing, extra
    )
