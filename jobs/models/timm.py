"""Any classifier of timm, by name (``timm.list_models``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from jobs.models.library import DATA, GAMMA, ONE_OUTPUT, WEIGHTS, Library

if TYPE_CHECKING:
    from torch import nn


class Timm(Library):
    """A network of timm; without ``zero_gamma`` its last gammas start at 1 too, where timm's own default is often 0."""

    reserved: ClassVar[dict[str, str]] = {
        **dict.fromkeys(
            ("weights", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir"),
            WEIGHTS,
        ),
        **dict.fromkeys(("num_classes", "in_chans"), DATA),
        **dict.fromkeys(("features_only", "out_indices"), ONE_OUTPUT),
        "zero_init_last": GAMMA,
    }

    kind: Literal["timm"] = "timm"

    def build(self, classes: int, channels: int) -> nn.Module:
        """A freshly initialised network.

        Raises:
            ValueError: no such name, or refused kwargs.
        """
        import timm

        if not timm.is_model(self.name):
            raise self._unknown(timm.list_models())
        return self._make(timm.create_model, pretrained=False, num_classes=classes, in_chans=channels)
