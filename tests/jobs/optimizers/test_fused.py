"""Torch's fused kernels: the same updates as its plain ones, in any layout, and none that overflowed."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from jobs.optimizers import SGD, Adam, AdamW, Optimizer
from jobs.place import Place
from tests import world
from tests.jobs.optimizers.nets import backward, small

SPECS: list[tuple[Optimizer, Any, dict[str, Any]]] = [
    (SGD(lr=0.1, weight_decay=1e-2), torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
    (SGD(lr=0.1, momentum=0.5, nesterov=False), torch.optim.SGD, {"momentum": 0.5}),
    (SGD(lr=0.1, momentum=0.0, nesterov=False, weight_decay=1e-2), torch.optim.SGD, {}),
    (
        Adam(lr=1e-2, weight_decay=1e-2, betas=(0.8, 0.9), eps=1e-4),
        torch.optim.Adam,
        {"betas": (0.8, 0.9), "eps": 1e-4},
    ),
    (AdamW(lr=1e-2, weight_decay=1e-2), torch.optim.AdamW, {}),
]

each = pytest.mark.parametrize(
    ("spec", "cls", "options"), SPECS, ids=[spec.model_dump_json(exclude_defaults=True) for spec, *_ in SPECS]
)


@each
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_same_updates_as_torchs_plain_ones(
    spec: Optimizer, cls: Any, options: dict[str, Any], dtype: torch.dtype
) -> None:
    ours, theirs = small(dtype), small(dtype)
    mine = spec.build(ours, spec.rate(256))
    assert mine.param_groups[0]["fused"] is True
    plain = cls(
        theirs.parameters(), lr=spec.rate(256), weight_decay=spec.weight_decay, fused=False, foreach=False, **options
    )
    for update in range(5):
        for network, optimizer in ((ours, mine), (theirs, plain)):
            backward(network, update)
            optimizer.step()
    tolerance = 1e-12 if dtype == torch.float64 else 1e-4
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


@each
def test_a_first_update_that_overflows_leaves_no_trace(spec: Optimizer, cls: Any, options: dict[str, Any]) -> None:
    """The updates after it are those of a run that never had it, whatever lay in the memory that momentum takes."""
    litter = [torch.full((size,), float("nan")) for size in (4, 5, 6, 24, 36, 108, 120) for _ in range(50)]
    del litter
    weights = []
    for overflow in (True, False):
        network = small()
        before = [parameter.detach().clone() for parameter in network.parameters()]
        optimizer = spec.build(network, spec.rate(256))
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
        for update in range(0 if overflow else 1, 4):
            backward(network, update)
            for parameter in network.parameters():
                parameter.grad *= scaler.scale(torch.ones(()))  # as if the loss had been scaled
            if update == 0:
                network[0].weight.grad[0, 0, 0, 0] = float("inf")
            scaler.step(optimizer)
            scaler.update()
            if update == 0:
                assert all(torch.equal(old, new) for old, new in zip(before, network.parameters(), strict=True))
                assert scaler.get_scale() == 1.0
        weights.append([parameter.detach() for parameter in network.parameters()])
    for one, other in zip(*weights, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)


def layouts() -> list[tuple[str, list[int], list[int]]]:
    """Strides of parameters and gradients under DDP, where they differ in memory, after two backward passes."""
    network = small()
    wrapped = Place.current(use_gpu=False).wrap(network)
    for update in range(2):
        network.zero_grad(set_to_none=True)
        x = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(update))
        wrapped(x.to(memory_format=torch.channels_last)).square().sum().backward()
    found = []
    for name, parameter in network.named_parameters():
        pairs = zip(parameter.shape, parameter.stride(), parameter.grad.stride(), strict=True)
        if any(size > 1 and mine != its for size, mine, its in pairs):
            found.append((name, list(parameter.stride()), list(parameter.grad.stride())))
    assert network[0].weight.stride() == (27, 1, 9, 3)  # NHWC indeed
    return found


@pytest.mark.parametrize("ranks", [1, 2])
def test_gradients_lie_as_their_parameters_do(ranks: int) -> None:
    """The fused kernels of a CPU read both in the order of memory."""
    assert world.run(ranks, layouts) == [[]] * ranks
