"""AdaBound (Luo et al., arXiv 1902.09843): Adam whose rate for every weight is held between bounds that close in on a
single rate, so that it begins as Adam and ends as SGD.

With gradient ``g``, moments ``m = b1 m + (1 - b1) g`` and ``v = b2 v + (1 - b2) g^2``, at update t (from 1)::

    f = final_lr * lr / base_lr       lo = f (1 - 1 / (gamma t + 1))       hi = f (1 + 1 / (gamma t))
    weights -= clip(lr sqrt(1 - b2^t) / (1 - b1^t) / (sqrt(v) + eps), lo, hi) * m

``lr`` is the rate that the schedule gives, ``base_lr`` the one it multiplies: the schedule moves the bounds too. As in
the authors' code: Adam's bias correction (the paper's algorithm is remembered to have none), eps inside the clip, and
``base_lr`` the rate at construction; unlike there, ``base_lr`` is kept in checkpoints. m is a mean of gradients, so
final_lr 0.1 acts like SGD with momentum 0.9 at 0.01. ``lr_per_256`` scales ``lr`` alone, final_lr stays as it is.

AMSBound takes the largest v so far, as AMSGrad does. AdaBoundW decays the weights by themselves instead of through the
gradient, in the authors' form: ``weights -= weight_decay * weights``, **not** times the learning rate. So it does not
follow the schedule, and what AdamW calls weight_decay w at rate lr is w * lr here.

Under fp16 each update waits for the device to say whether the gradients overflowed; under bf16 it does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from jobs.optimizers.optimizer import Beta, Eps, Optimizer

if TYPE_CHECKING:
    import torch


class _AdaBound(Optimizer):
    decoupled: ClassVar[bool]

    betas: tuple[Beta, Beta] = (0.9, 0.999)
    """Decay rates of the first and second moments."""
    eps: Eps = 1e-8
    """Added to the root of the second moment."""
    final_lr: float = Field(0.1, gt=0, le=1e4)
    """The rate of every weight at the end, while the schedule's factor is 1."""
    gamma: float = Field(1e-3, ge=1e-8, le=1)
    """How fast the bounds close in: at update 1 / gamma they are half and twice the final rate."""
    amsbound: bool = False
    """Use the largest second moment so far (AMSBound)."""

    def build(self, network: torch.nn.Module, lr: float) -> torch.optim.Optimizer:
        """The optimizer over the trainable parameters of ``network``; ``lr`` becomes its ``base_lr``."""
        from jobs.optimizers.bounded import Bounded

        parameters = self.groups(network)
        chosen = {name: getattr(self, name) for name in ("betas", "eps", "final_lr", "gamma", "amsbound", "decoupled")}
        return Bounded(parameters, lr, **chosen)


class AdaBound(_AdaBound):
    """AdaBound with coupled (L2) weight decay."""

    decoupled: ClassVar[bool] = False

    kind: Literal["adabound"] = "adabound"


class AdaBoundW(_AdaBound):
    """AdaBound with decoupled weight decay."""

    decoupled: ClassVar[bool] = True

    kind: Literal["adaboundw"] = "adaboundw"
    weight_decay: float = Field(0.0, ge=0, lt=1)
    """What every update takes off the weights, as a share of them; not multiplied by the learning rate."""
