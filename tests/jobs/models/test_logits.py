"""Logits are float32 or wider, whatever the arithmetic of the network's body."""

from __future__ import annotations

import torch
from torch import nn

from jobs.evaluate import evaluate
from jobs.models.logits import logits
from jobs.place import Place
from jobs.randomness import generator, seed_global


def network(classes: int) -> nn.Module:
    seed_global("logits")
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8 * 36, 16), nn.ReLU(), nn.Linear(16, classes)
    ).eval()


@torch.no_grad()
def test_under_autocast_the_head_and_the_average_are_float32() -> None:
    net, x = network(1000), torch.randn(50, 3, 8, 8, generator=generator("x"))
    with torch.autocast("cpu", torch.bfloat16):
        body = net[:4](x), net[:4](x.flip(3))
        found, flipped, plain = logits(net, x, 1000), logits(net, x, 1000, flip=True), net(x)
    assert found.dtype == flipped.dtype == torch.float32 and plain.dtype == torch.bfloat16
    heads = [nn.functional.linear(each.float(), net[4].weight, net[4].bias) for each in body]
    assert torch.equal(found, heads[0]) and torch.equal(flipped, (heads[0] + heads[1]) / 2)
    assert ties(plain) > 0 == ties(found), "16 bits tie"
    assert not net[4]._forward_hooks


def ties(values: torch.Tensor) -> int:
    return int((values.float() == values.float().amax(1, keepdim=True)).sum()) - len(values)


@torch.no_grad()
def test_without_autocast_nothing_changes() -> None:
    net, x = network(10).double(), torch.randn(5, 3, 8, 8, generator=generator("x"), dtype=torch.float64)
    assert torch.equal(logits(net, x, 10), net(x))
    assert torch.equal(logits(net, x, 10, flip=True), (net(x) + net(x.flip(3))) / 2)


def test_scores_are_those_of_the_wide_logits() -> None:
    net, x = network(1000), torch.randn(200, 3, 8, 8, generator=generator("scores"))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        labels = logits(net, x, 1000).argmax(1)
    scores = evaluate(net, [(x, labels)], 200, 1000, Place(), lambda: torch.autocast("cpu", torch.bfloat16))
    assert scores.top1 == 1.0
