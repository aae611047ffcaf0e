"""Limits on gradients, against torch's and timm's own."""

from __future__ import annotations

import copy

import pytest
import torch
from pydantic import ValidationError
from timm.utils.agc import adaptive_clip_grad
from torch import nn

from jobs.optimizers import SGD
from jobs.optimizers.clipping import clip
from jobs.place import Place
from jobs.randomness import generator, seed_global
from jobs.report import Keep
from jobs.train import train
from tests.jobs.digits_job import job


def network() -> nn.Module:
    seed_global("clipping")
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 8), nn.Linear(8, 5))
    nn.init.zeros_(net[3].bias)
    with torch.no_grad():
        net[0].weight[1] = 0.0  # a unit of no size counts as 1e-3
    for number, parameter in enumerate(net.parameters()):
        parameter.grad = torch.randn(parameter.shape, generator=generator("gradient", number)) * 10 ** (number % 4 - 2)
    net[0].weight.grad[2] = 0.0
    return net


def gradients(net: nn.Module) -> list[torch.Tensor]:
    return [parameter.grad.clone() for parameter in net.parameters()]


@pytest.mark.parametrize("factor", [0.01, 0.1, 10.0])
def test_adaptive_clipping_is_timms(factor: float) -> None:
    ours, theirs = network(), network()
    before = gradients(ours)
    clip(ours, SGD(lr=0.1, clip_adaptive=factor))
    adaptive_clip_grad(list(theirs.parameters())[:-2], clip_factor=factor)  # timm's exclude_head
    for one, other in zip(gradients(ours), gradients(theirs), strict=True):
        torch.testing.assert_close(one, other)
    assert all(torch.equal(one, old) for one, old in zip(gradients(ours)[-2:], before[-2:], strict=True))
    assert not torch.equal(gradients(ours)[0], before[0]) or factor == 10.0


def test_clipping_by_value_is_torchs_and_without_a_limit_nothing_is_clipped() -> None:
    ours, theirs = network(), network()
    clip(ours, SGD(lr=0.1))
    assert all(torch.equal(one, other) for one, other in zip(gradients(ours), gradients(theirs), strict=True))
    clip(ours, SGD(lr=0.1, clip_value=0.3))
    nn.utils.clip_grad_value_(theirs.parameters(), 0.3)
    assert all(torch.equal(one, other) for one, other in zip(gradients(ours), gradients(theirs), strict=True))
    assert max(float(gradient.abs().max()) for gradient in gradients(ours)) == pytest.approx(0.3)


def test_one_limit_at_a_time() -> None:
    with pytest.raises(ValidationError, match="clip_norm and clip_value both limit the gradient"):
        SGD(lr=0.1, clip_norm=1.0, clip_value=1.0)


@pytest.mark.parametrize("field", ["clip_value", "clip_adaptive"])
def test_it_acts_in_a_run(field: str) -> None:
    """A limit so small that nothing moves, under loss scaling too: what is clipped is the unscaled gradient."""
    spec = job(epochs=1, schedule__warmup_epochs=0, precision="fp16", optimizer__weight_decay=0.0)
    data = spec.data.open()
    still = train(spec.override({f"optimizer.{field}": 1e-12}), Place(), Keep(), {"data": data}).network
    assert still is not None
    seed_global(spec.seed.init, "init")
    fresh = spec.model.build(10, 1)
    head = {id(parameter) for parameter in still[-1].parameters()} if field == "clip_adaptive" else set()
    for parameter, old in zip(still.parameters(), copy.deepcopy(fresh).parameters(), strict=True):
        if id(parameter) not in head:
            torch.testing.assert_close(parameter, old, rtol=0, atol=1e-6)
