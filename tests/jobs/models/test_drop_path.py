"""Stochastic depth: by hand, against torchvision's with the same draws, and its statistics."""

import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torchvision.ops import StochasticDepth

from jobs.models import ResNet
from jobs.models.drop_path import DropPath, drop_path
from jobs.randomness import seed_global


def test_by_hand() -> None:
    x = torch.tensor([[1.0, -2.0], [3.0, 4.0], [5.0, 6.0]]).view(3, 2, 1, 1)
    keep = torch.tensor([1.0, 0.0, 1.0]).view(3, 1, 1, 1)
    got = drop_path(x, keep, 0.75)
    assert got.flatten().tolist() == [4.0, -8.0, 0.0, 0.0, 20.0, 24.0]
    assert x.flatten().tolist() == [1.0, -2.0, 3.0, 4.0, 5.0, 6.0]


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.999])
def test_same_draws_and_gradients_as_torchvisions(rate: float) -> None:
    results = []
    for module in (DropPath(rate), StochasticDepth(rate, "row")):
        x = torch.linspace(-3, 3, 64 * 4).view(64, 4, 1, 1).requires_grad_()
        seed_global("drop")
        y = module(x)
        y.square().sum().backward()
        results.append((y.detach(), x.grad))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)
    dropped = (results[0][0] == 0).view(64, 4)
    assert torch.equal(dropped.all(1), dropped.any(1))
    assert dropped.any()


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_a_sample_is_dropped_with_its_probability_and_the_mean_stays(rate: float) -> None:
    seed_global("statistics")
    count = 40_000
    y = DropPath(rate)(torch.ones(count, 1, 1, 1)).flatten()
    sigma = (rate * (1 - rate) / count) ** 0.5
    assert abs((y == 0).float().mean().item() - rate) < 4 * sigma
    assert abs(y.mean().item() - 1) < 4 * sigma / (1 - rate)
    assert torch.allclose(y[y != 0], torch.tensor(1 / (1 - rate)))


def test_scaling_is_not_rounded_before_it_is_applied() -> None:
    x = (1 + torch.arange(128) / 128).to(torch.bfloat16).view(128, 1, 1, 1)
    exact = (x.double() / (1 - 0.1)).to(torch.bfloat16)
    assert not torch.equal(x * torch.tensor(1 / 0.9, dtype=torch.bfloat16), exact)
    got = drop_path(x, torch.ones(128, 1, 1, 1), 0.1)
    assert got.dtype == torch.bfloat16
    assert torch.equal(got, exact)


def test_identity_in_evaluation_draws_nothing() -> None:
    module = DropPath(0.5).eval()
    x = torch.randn(4, 2, 3, 3)
    before = torch.get_rng_state()
    assert module(x) is x
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("depth", "blocks"), [(8, 3), (20, 9), (50, 16)])
def test_rates_rise_linearly_from_0_at_the_first_block(depth: int, blocks: int) -> None:
    network = ResNet(depth=depth, width=4, drop_path=0.3).build(3, 3)
    drops = [block.drop for block in network.blocks]
    assert len(drops) == blocks
    assert isinstance(drops[0], nn.Identity)
    assert [drop.rate for drop in drops[1:]] == pytest.approx([0.3 * i / (blocks - 1) for i in range(1, blocks)])
    assert drops[-1].rate == 0.3


def test_only_the_branch_is_dropped() -> None:
    network = ResNet(depth=8, width=4, drop_path=0.5).build(3, 3)
    block = network.blocks[-1].train()
    x = torch.randn(256, 8, 4, 4)
    seed_global("branch")
    with torch.no_grad():
        got = block(x)
        shortcut = block.shortcut(x)
        branch = block.branch(x)
    kept = (torch.relu(branch / 0.5 + shortcut) - got).abs().amax((1, 2, 3)) < 1e-5
    dropped = (torch.relu(shortcut) - got).abs().amax((1, 2, 3)) < 1e-5
    assert (kept ^ dropped).all()
    assert 90 < kept.sum() < 166


def test_network_draws_from_the_global_generator_alone() -> None:
    network = ResNet(depth=14, width=4, drop_path=0.9).build(3, 3).train()
    x = torch.randn(16, 3, 8, 8)
    with torch.no_grad():
        outputs = []
        for seed in (1, 1, 2):
            seed_global("step", seed)
            outputs.append(network(x))
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])


def test_no_drop_path_is_the_same_network_in_evaluation() -> None:
    networks = []
    for rate in (0.0, 0.5):
        seed_global("evaluation")
        networks.append(ResNet(depth=14, width=4, drop_path=rate).build(3, 3).eval())
    x = torch.randn(4, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(networks[0](x), networks[1](x))
    assert not any(isinstance(module, DropPath) for module in networks[0].modules())


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan")])
def test_rates_that_are_refused(rate: float) -> None:
    with pytest.raises(ValidationError):
        ResNet(depth=8, drop_path=rate)
