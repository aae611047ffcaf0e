"""Any optimizer of timm, by name (``timm.optim.list_optimizers``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from jobs.optimizers.library import CLOSURE, Library

if TYPE_CHECKING:
    import torch

_DRAWS = "it draws from a generator of its own, whose state a checkpoint without pickle cannot hold"


class Timm(Library):
    """An optimizer of timm: lamb, lion, muon, ...; momentum is 0.9 unless kwargs say otherwise, as timm has it."""

    refused: ClassVar[dict[str, str]] = {
        "adahessian": f"it is of second order, and the loop's backward pass of first; {CLOSURE.rpartition('; ')[2]}",
        **dict.fromkeys(("kron", "kronc", "kronw"), _DRAWS),
    }

    kind: Literal["timm"] = "timm"

    def build(self, network: torch.nn.Module, lr: float) -> torch.optim.Optimizer:
        """The optimizer over the trainable parameters of ``network``.

        Raises:
            ValueError: no such name, kwargs that the optimizer refuses, or one that needs a package beside timm.
        """
        from timm import optim

        if self.name not in (names := optim.list_optimizers()):
            raise self._unknown(names)
        info = optim.get_optimizer_info(self.name)
        if isinstance(info.opt_class, str):
            package = info.opt_class.partition(".")[0]
            raise ValueError(f"timm {self.name} needs the package {package}, which is not supported here")
        if info.second_order:
            raise ValueError(f"timm {self.name} cannot be used here: {self.refused['adahessian']}")
        momentum: dict[str, Any] = {"momentum": 0.9} if info.has_momentum else {}
        return self._make(info.opt_class, network, lr, {**momentum, **(info.defaults or {})})
