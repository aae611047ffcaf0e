"""The optimizer behind AdaBound and AdaBoundW; :mod:`jobs.optimizers.adabound` has the equations."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import sqrt
from typing import Any

import torch


class Bounded(torch.optim.Optimizer):
    """Adam with bounded rates, one pass of foreach kernels a step.

    ``base_lr`` is the rate at construction; it is kept in the parameter groups, so that ``state_dict`` has it. So build
    with the base rate, not with the first of a warmup.

    Args:
        params: parameter groups, each with its ``weight_decay``.
        lr: base rate; positive.
        betas: decay rates of the moments.
        eps: added to the root of the second moment.
        final_lr: what the rates end on at the base rate.
        gamma: how fast the bounds close.
        amsbound: use the largest second moment so far.
        decoupled: subtract ``weight_decay`` times the weights, instead of adding it to the gradient.
    """

    def __init__(
        self,
        params: Iterable[dict[str, Any]],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        final_lr: float = 0.1,
        gamma: float = 1e-3,
        amsbound: bool = False,
        decoupled: bool = False,
    ) -> None:
        defaults = {"lr": lr, "base_lr": lr, "betas": betas, "eps": eps, "final_lr": final_lr, "gamma": gamma}
        super().__init__(params, {**defaults, "weight_decay": 0.0, "amsbound": amsbound, "decoupled": decoupled})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update; a closure is refused, since nothing here evaluates the loss again."""
        if closure is not None:
            raise ValueError("AdaBound takes no closure")
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if parameters:
                self._step(group, parameters)

    def _step(self, group: dict[str, Any], parameters: list[torch.Tensor]) -> None:
        gradients: Any = [parameter.grad for parameter in parameters]
        if group["weight_decay"] and not group["decoupled"]:
            gradients = torch._foreach_add(gradients, parameters, alpha=group["weight_decay"])
        states = [self._state(parameter, group["amsbound"]) for parameter in parameters]
        for state in states:
            state["step"] += 1
        (beta1, beta2), times = group["betas"], [state["step"] for state in states]
        first, second = [state["exp_avg"] for state in states], [state["exp_avg_sq"] for state in states]
        torch._foreach_lerp_(first, gradients, 1.0 - beta1)
        torch._foreach_mul_(second, beta2)
        torch._foreach_addcmul_(second, gradients, gradients, 1.0 - beta2)
        if group["amsbound"]:
            largest = [state["max_exp_avg_sq"] for state in states]
            torch._foreach_maximum_(largest, second)
            second = largest
        rates = torch._foreach_sqrt(second)
        torch._foreach_add_(rates, group["eps"])
        torch._foreach_reciprocal_(rates)
        torch._foreach_mul_(rates, [group["lr"] * sqrt(1.0 - beta2**t) / (1.0 - beta1**t) for t in times])
        final = group["final_lr"] * group["lr"] / group["base_lr"]
        torch._foreach_clamp_min_(rates, [final * (1.0 - 1.0 / (group["gamma"] * t + 1.0)) for t in times])
        torch._foreach_clamp_max_(rates, [final * (1.0 + 1.0 / (group["gamma"] * t)) for t in times])
        if group["weight_decay"] and group["decoupled"]:
            torch._foreach_mul_(parameters, 1.0 - group["weight_decay"])
        torch._foreach_addcmul_(parameters, rates, first, -1.0)

    def _state(self, parameter: torch.Tensor, amsbound: bool) -> dict[str, Any]:
        state: dict[str, Any] = self.state[parameter]
        if not state:
            state["step"] = 0
            for name in ("exp_avg", "exp_avg_sq", *(("max_exp_avg_sq",) if amsbound else ())):
                state[name] = torch.zeros_like(parameter)
        return state
