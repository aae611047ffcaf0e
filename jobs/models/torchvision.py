"""Any classifier of torchvision, by name (``torchvision.models.list_models``)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, ClassVar, Literal

from jobs.models.library import DATA, GAMMA, ONE_OUTPUT, WEIGHTS, Library

if TYPE_CHECKING:
    from torch import nn

_WITH_AUXILIARY = ("googlenet", "inception_v3")
AUXILIARY = ("AuxLogits.", "aux1.", "aux2.")
"""Classifiers that the files of these have for training from scratch, and the networks here have not."""
_RENAMED = (
    (re.compile(r"(\.denselayer\d+\.(?:norm|conv))\.(?=[12]\.)"), r"\1"),
    (re.compile(r"(?<=\.mlp)\.linear_1(?=\.)"), ".0"),
    (re.compile(r"(?<=\.mlp)\.linear_2(?=\.)"), ".3"),
)
"""Names of tensors in the files that torchvision publishes for DenseNet and ViT, which its own loaders rename."""


class Torchvision(Library):
    """A network of torchvision, for images of 3 channels; GoogLeNet and Inception have no auxiliary classifiers."""

    reserved: ClassVar[dict[str, str]] = {
        **dict.fromkeys(("weights", "pretrained", "weights_backbone", "progress"), WEIGHTS),
        "num_classes": DATA,
        "zero_init_residual": GAMMA,
        "aux_logits": ONE_OUTPUT,
    }

    kind: Literal["torchvision"] = "torchvision"

    def build(self, classes: int, channels: int) -> nn.Module:
        """A freshly initialised network.

        Raises:
            ValueError: no such name, refused kwargs, or images of other than 3 channels.
        """
        from torchvision import models

        names = models.list_models(module=models)
        if self.name not in names:
            raise self._unknown(names)
        if channels != 3:
            raise ValueError(
                f"torchvision's models take images of 3 channels, got {channels}; "
                "set data.channels to 3, or take the model from timm or kind resnet"
            )
        given: dict[str, object] = {"weights": None, "num_classes": classes}
        if self.name in _WITH_AUXILIARY:
            given["aux_logits"] = False
            if "init_weights" not in self.kwargs:
                given["init_weights"] = True
        return self._make(models.get_model, **given)


def renamed(name: str) -> str:
    """What torchvision's networks call the tensor that its files of weights call ``name``."""
    for old, new in _RENAMED:
        name = old.sub(new, name)
    return name


def takes_half(name: str) -> bool:
    """Whether the published weights of that network are of images with mean and standard deviation 0.5.

    torchvision says ImageNet's of these too, and converts in the network (``transform_input``), which ours leaves to
    the preprocessing.
    """
    return name in _WITH_AUXILIARY
