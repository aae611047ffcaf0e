"""What a model spec is: it builds an ``nn.Module`` for a number of classes and channels."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, Self

from pydantic import NonNegativeInt, model_validator

from jobs.base import Spec
from jobs.models.weights import LibraryWeights, WeightsSpec

if TYPE_CHECKING:
    from torch import nn


class Model(Spec):
    """A classifier: images ``(N, channels, size, size)`` to logits ``(N, classes)``.

    Attributes:
        residual: whether the network has residual branches, whose last gamma may start at 0.
    """

    residual: ClassVar[bool] = True

    zero_gamma: bool = False
    """Start the last normalisation of every residual branch with gamma 0 (Goyal et al., arXiv 1706.02677), so that each
    block starts as its shortcut; for networks of residual blocks only."""
    pretrained: WeightsSpec | None = None
    """Weights to start from, except the head, which is new for the classes of the data; null starts from random
    weights. Images get the size, channels, mean and std that the weights were trained with, wherever ``data`` leaves
    them out."""
    freeze_epochs: NonNegativeInt = 0
    """First epochs in which only the head learns: the weights and running statistics of the body do not change."""

    sync_batchnorm: bool = False
    """Whether BatchNorm takes mean and variance of the images of all workers together; the result then depends on
    their number, and not on accumulation x workers alone."""

    @model_validator(mode="after")
    def _starts_once(self) -> Self:
        kind: str = self.kind  # type: ignore[attr-defined]
        if self.zero_gamma and not self.residual:
            raise ValueError(
                f"zero_gamma true is for networks of residual blocks: kind {kind} has no shortcuts, so a gamma of 0 "
                "would zero the signal itself; leave it out or take kind resnet"
            )
        if self.pretrained is None:
            if self.freeze_epochs:
                raise ValueError(
                    f"freeze_epochs {self.freeze_epochs} would hold a body that has learned nothing; "
                    "set pretrained, or leave freeze_epochs out"
                )
            return self
        if self.zero_gamma:
            raise ValueError(
                "zero_gamma true is for fresh networks: pretrained brings gammas of its own; leave one of them out"
            )
        if isinstance(self.pretrained, LibraryWeights):
            if kind not in ("timm", "torchvision"):
                raise ValueError(
                    f"pretrained.kind library: no library has weights for kind {kind}; take a network of timm or "
                    "torchvision, or weights of kind run, model or file"
                )
            if kind == "timm" and self.pretrained.weights is not None:
                raise ValueError(
                    f"pretrained.weights {self.pretrained.weights!r} is torchvision's way; timm's weights are part of "
                    "model.name, such as resnet50.a1_in1k"
                )
        return self

    def architecture(self) -> Self:
        """The spec without what was done to get its weights: what a trained network is rebuilt from."""
        return self.model_copy(update={"pretrained": None, "freeze_epochs": 0, "sync_batchnorm": False})

    @abstractmethod
    def build(self, classes: int, channels: int) -> nn.Module:
        """A freshly initialised network, whatever ``pretrained`` says; the caller has seeded the global generator.

        Raises:
            ValueError: no such network, or it cannot take these classes or channels.
        """
