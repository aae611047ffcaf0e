"""The exponential moving average by hand, and against timm's and torch's own."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from jobs.ema import Average
from jobs.randomness import seed_global
from jobs.spec import EMA


def network() -> nn.Module:
    seed_global("ema")
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 2))


def trajectory(count: int = 20) -> list[dict[str, torch.Tensor]]:
    """States of a network, BatchNorm's buffers among them, while it learns."""
    trained = network()
    optimizer = torch.optim.SGD(trained.parameters(), lr=0.05)
    states = []
    for step in range(count):
        seed_global("ema update", step)
        trained(torch.randn(4, 1, 4, 4)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        states.append({name: value.clone() for name, value in trained.state_dict().items()})
    return states


def follow(spec: EMA, states: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    source = network()
    average = Average(spec, source)
    for number, state in enumerate(states, 1):
        source.load_state_dict(state)
        average.update(number)
    return average.network.state_dict()


def test_by_hand() -> None:
    source = nn.Linear(1, 1, bias=False)
    nn.init.constant_(source.weight, 1.0)
    average = Average(EMA(decay=0.9, warmup=False), source)
    for number, value in enumerate((2.0, 3.0), 1):
        nn.init.constant_(source.weight, value)
        average.update(number)
    # 0.9 (0.9 * 1 + 0.1 * 2) + 0.1 * 3
    assert average.network.weight.item() == pytest.approx(1.29)


def test_warmup_has_a_short_memory_first() -> None:
    source = nn.Linear(1, 1, bias=False)
    nn.init.constant_(source.weight, 0.0)
    average = Average(EMA(decay=0.999), source)
    nn.init.constant_(source.weight, 1.0)
    average.update(1)
    assert average.network.weight.item() == pytest.approx(1 - 2 / 11)


def test_equals_timms() -> None:
    from timm.utils import ModelEmaV3

    states = trajectory()
    source = network()
    reference = ModelEmaV3(source, decay=0.9, use_warmup=False)
    for state in states:
        source.load_state_dict(state)
        reference.update(source)
    ours = follow(EMA(decay=0.9, warmup=False), states)
    for name, value in reference.module.state_dict().items():
        torch.testing.assert_close(ours[name], value, msg=name)


def test_equals_torchs() -> None:
    states = trajectory()
    source = network()
    reference = AveragedModel(source, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    reference.n_averaged.fill_(1)  # torch copies at its first call; ours starts as a copy
    for state in states:
        source.load_state_dict(state)
        reference.update_parameters(source)
    ours = follow(EMA(decay=0.9, warmup=False), states)
    for name, value in reference.module.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(ours[name], value, msg=name)


def test_counters_are_copied_and_no_gradient_is_kept() -> None:
    states = trajectory(5)
    assert follow(EMA(decay=0.9), states)["1.num_batches_tracked"] == 5
    assert not any(parameter.requires_grad for parameter in Average(EMA(), network()).network.parameters())


def test_equals_torchvisions_training_script() -> None:
    """Every 3rd update of 7 an epoch, reset during 2 epochs of warmup."""
    states, source = trajectory(35), network()
    reference = AveragedModel(source, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    for number, state in enumerate(states, 1):
        source.load_state_dict(state)
        if number % 3 == 0:
            reference.update_parameters(source)
            if number <= 14:
                reference.n_averaged.fill_(0)
    spec, source = EMA(decay=0.9, every=3, copy_epochs=2, warmup=False), network()
    average = Average(spec, source, per_epoch=7)
    for number, state in enumerate(states, 1):
        source.load_state_dict(state)
        average.update(number)
    for name, value in reference.module.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(average.network.state_dict()[name], value, msg=name)


def test_a_decay_near_1_does_not_stall_in_float32() -> None:
    source = nn.Linear(1, 1, bias=False)
    nn.init.constant_(source.weight, 1.0)
    average = Average(EMA(decay=0.99998, warmup=False), source)
    nn.init.constant_(source.weight, 1.002)
    for number in range(1, 5001):
        if number == 2000:  # resumed from a checkpoint
            kept, average = average.state(), Average(EMA(decay=0.99998, warmup=False), source)
            average.load(kept)
        average.update(number)
    assert average.network.weight.item() == pytest.approx(1.002 - 0.002 * 0.99998**5000, abs=1.2e-7)


def test_tied_weights_are_averaged_once() -> None:
    source = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    source[1].weight = source[0].weight
    nn.init.constant_(source[0].weight, 0.0)
    average = Average(EMA(decay=0.9, warmup=False), source)
    nn.init.constant_(source[0].weight, 1.0)
    average.update(1)
    assert average.network[1].weight is average.network[0].weight
    torch.testing.assert_close(average.network[0].weight, torch.full((2, 2), 0.1))
