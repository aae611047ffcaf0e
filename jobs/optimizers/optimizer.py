"""What every optimizer shares: the learning rate, alone or by the linear scaling rule, and weight decay.

Linear scaling (Goyal et al., arXiv 1706.02677): ``lr = lr_per_256 * batch_size / 256`` with the global batch, once and
here alone; a linear warmup ends on it.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, field_validator, model_validator

from jobs.base import Spec

if TYPE_CHECKING:
    import torch

Beta = Annotated[float, Field(ge=0, lt=1)]
"""Decay rate of a running mean."""
Eps = Annotated[float, Field(ge=1e-30, le=1)]
"""What keeps a denominator from being zero, in float32 too."""
_LARGEST = 1e30
Part = Literal["bias", "norm", "scale", "embedding", "timm"]
"""A sort of parameters; see :func:`jobs.optimizers.parameters.groups`."""


class Optimizer(Spec):
    """The fields that every optimizer has."""

    lr: PositiveFloat | None = None
    """Learning rate at the global batch of the spec; the schedule multiplies it. Either this or lr_per_256."""
    lr_per_256: PositiveFloat | None = None
    """Learning rate of a global batch of 256, scaled linearly to the spec's batch_size (Goyal et al., arXiv
    1706.02677). Either this or lr."""
    weight_decay: NonNegativeFloat = 0.0
    """Weight decay of all parameters except those of no_decay."""
    no_decay: tuple[Part, ...] = ()
    """What is left out of weight decay: ``bias`` (of every layer but the normalisations), ``norm`` (all that
    normalisation layers have), ``scale`` (LayerScale, ConvNeXt's gamma, PReLU: one gain a channel or layer),
    ``embedding`` (class tokens, position embeddings, tables of relative positions), ``timm`` (timm's rule: at most one
    dimension, called bias, or named by the network's ``no_weight_decay()``). "No bias decay" (arXiv 1807.11205,
    1812.01187) is [bias, norm]; ViT, Swin and ConvNeXt are published with all four, or timm."""
    layer_decay: float | None = Field(None, gt=0, le=1)
    """Each layer learns at this share of the learning rate of the next one, so that only the head has the full rate
    (BEiT, arXiv 2106.08254; timm's ``layer_decay``); None gives all layers the same."""
    clip_norm: PositiveFloat | None = None
    """Largest global L2 norm of the gradient; None does not clip."""
    clip_value: PositiveFloat | None = None
    """Largest absolute value in the gradient, in place of ``clip_norm``; None does not clip."""
    clip_adaptive: PositiveFloat | None = None
    """Largest norm of each unit's gradient as a share of its weights' (AGC, arXiv 2102.06171; 0.01 there), in place of
    ``clip_norm``, in all layers but the last linear one; None does not clip."""

    @field_validator("lr", "lr_per_256", "weight_decay")
    @classmethod
    def _in_float32(cls, value: float | None) -> float | None:
        if value is not None and value > _LARGEST:
            raise ValueError(f"must be at most {_LARGEST:g}, got {value:g}: float32 overflows")
        return value

    @model_validator(mode="after")
    def _one_rate(self) -> Self:
        if self.lr is not None and self.lr_per_256 is not None:
            raise ValueError(
                f"lr_per_256 {self.lr_per_256:g} and lr {self.lr:g} both give the learning rate; "
                "leave one out, or set it to null (-s optimizer.lr=null) where it comes from a base spec"
            )
        if self.lr is None and self.lr_per_256 is None:
            raise ValueError(
                "lr is missing, a number > 0; or give lr_per_256, the learning rate of a batch of 256, "
                "which is scaled to batch_size"
            )
        return self

    @property
    def clips(self) -> list[str]:
        """The limits on gradients that are set, by their fields."""
        return [name for name in ("clip_norm", "clip_value", "clip_adaptive") if getattr(self, name) is not None]

    @model_validator(mode="after")
    def _one_clip(self) -> Self:
        if len(self.clips) > 1:
            raise ValueError(f"{' and '.join(self.clips)} both limit the gradient; leave all but one of them out")
        return self

    def rate(self, batch_size: int) -> float:
        """The base learning rate at a global batch of ``batch_size`` images; the schedule multiplies it."""
        if self.lr is not None:
            return self.lr
        assert self.lr_per_256 is not None
        return self.lr_per_256 * batch_size / 256

    def groups(self, network: torch.nn.Module) -> list[dict[str, Any]]:
        """The parameter groups of ``network``; see :func:`jobs.optimizers.parameters.groups`."""
        from jobs.optimizers.parameters import groups

        return groups(network, self.weight_decay, self.no_decay, self.layer_decay)

    @abstractmethod
    def build(self, network: torch.nn.Module, lr: float) -> torch.optim.Optimizer:
        """The optimizer over the trainable parameters of ``network``.

        Args:
            network: not wrapped in DDP; on its device, in its final dtype.
            lr: the base rate, as :meth:`rate` gives it.
        """
