"""Tricks on whole batches, applied in the order in which the spec lists them.

Which order to choose: ``cutout`` or ``random_erasing`` first, then the mixing tricks (``mixup``, ``cutmix`` and
``ricap``), so that erased images are mixed; ``label_smoothing`` anywhere, since it commutes with mixing. A batch gets
one mixing trick at most: with several in a spec, their ``share`` says how often each has its turn.
"""

from typing import Annotated

from pydantic import Field

from jobs.batch.cutmix import CutMix
from jobs.batch.cutout import Cutout
from jobs.batch.label_smoothing import LabelSmoothing
from jobs.batch.mixup import Mixup
from jobs.batch.random_erasing import RandomErasing
from jobs.batch.ricap import RICAP
from jobs.batch.trick import At, BatchTrick, Mixing
from jobs.batch.turns import acting, fit_shares

BatchSpec = Annotated[
    Cutout | RandomErasing | Mixup | CutMix | RICAP | LabelSmoothing,
    Field(discriminator="kind"),
]

__all__ = [
    "RICAP",
    "At",
    "BatchSpec",
    "BatchTrick",
    "CutMix",
    "Cutout",
    "LabelSmoothing",
    "Mixing",
    "Mixup",
    "RandomErasing",
    "acting",
    "fit_shares",
]
