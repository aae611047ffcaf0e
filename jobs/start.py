"""The network that a run starts with: fresh, or filled with pretrained weights."""

from __future__ import annotations

from torch import nn

from jobs.models.model import Model


def network(
    model: Model, classes: int, channels: int, weights: str | None
) -> tuple[nn.Module, frozenset[str], str | None]:
    """A network, the names of its head, and the SHA-256 of the weights that it was filled with.

    Args:
        model: its spec; the caller has seeded the global generator.
        classes: number of classes.
        channels: of the images.
        weights: folder of the pretrained weights; None fills nothing, since a checkpoint will.

    Returns:
        the network; names of the tensors that pretrained weights do not bring; the checksum.
    """
    built = model.build(classes, channels)
    if model.pretrained is None:
        return built, frozenset(), None
    from jobs.models import finetune

    head = finetune.head(built, model, classes, channels)
    return built, head, None if weights is None else finetune.fill(built, head, model, weights)
