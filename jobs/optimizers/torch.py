"""Any optimizer of ``torch.optim``, by the name of its class."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from jobs.optimizers.library import CLOSURE, Library

if TYPE_CHECKING:
    import torch


class Torch(Library):
    """An optimizer of torch: RMSprop, NAdam, Adafactor, ..."""

    refused: ClassVar[dict[str, str]] = {
        "LBFGS": CLOSURE,
        "SparseAdam": "it takes sparse gradients alone, and those of a classifier are dense; take kind adam",
        "Optimizer": "it is the base of the others",
    }

    kind: Literal["torch"] = "torch"

    def build(self, network: torch.nn.Module, lr: float) -> torch.optim.Optimizer:
        """The optimizer over the trainable parameters of ``network``.

        Raises:
            ValueError: no such name, or kwargs or a network that the optimizer refuses.
        """
        import torch

        known = {
            name: cls
            for name, cls in vars(torch.optim).items()
            if isinstance(cls, type) and issubclass(cls, torch.optim.Optimizer)
        }
        if self.name not in known:
            raise self._unknown(known)
        return self._make(known[self.name], network, lr, {})
