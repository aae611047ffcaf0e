"""AdaBound against the published formulas, written a second time: one number at a time, in plain Python.

The authors' package (``adabound``) was not to be had where this was written, so the trajectories below are compared
with :func:`reference`, which shares neither code nor form with ours: no tensors, no foreach, the update of the paper's
algorithm with the authors' bias correction and schedule-following bounds.
"""

from __future__ import annotations

from math import cos, sin, sqrt

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from jobs.optimizers import AdaBound, AdaBoundW
from jobs.schedules import Cosine, Polynomial, ScheduleSpec, Step

STEPS, COUNT = 200, 12
DRAWS = np.random.default_rng(7)
START, CENTRE = DRAWS.normal(size=COUNT), DRAWS.normal(size=COUNT)
SCALE = 10.0 ** DRAWS.uniform(-5, 2, size=COUNT)  # gradients so different that both bounds and neither are met
NOISE = DRAWS.normal(size=(STEPS, COUNT))


def slope(weight: float, index: int, step: int) -> float:
    """The gradient of a bumpy bowl at one weight, with the noise of a batch."""
    return float(SCALE[index] * (weight - CENTRE[index] + 0.3 * sin(5 * weight) + 0.5 * NOISE[step, index]))


def reference(spec: AdaBound | AdaBoundW, factors: list[float]) -> tuple[np.ndarray, set[str]]:
    """Weights after every update ``(STEPS, COUNT)``, and which of ``lo``, ``hi``, ``between`` the rates were."""
    (b1, b2), base, met = spec.betas, spec.rate(256), set()
    path = np.zeros((STEPS, COUNT))
    for index in range(COUNT):
        weight, mean, square, largest = float(START[index]), 0.0, 0.0, 0.0
        for t, factor in enumerate(factors, 1):
            lr = base * factor
            g = slope(weight, index, t - 1)
            if spec.kind == "adabound":
                g += spec.weight_decay * weight
            mean = b1 * mean + (1 - b1) * g
            square = b2 * square + (1 - b2) * g * g
            largest = max(largest, square)
            root = sqrt(largest if spec.amsbound else square) + spec.eps
            rate = lr * sqrt(1 - b2**t) / (1 - b1**t) / root
            final = spec.final_lr * lr / base
            lo, hi = final * (1 - 1 / (spec.gamma * t + 1)), final * (1 + 1 / (spec.gamma * t))
            met.add("lo" if rate < lo else "hi" if rate > hi else "between")
            decay = spec.weight_decay * weight if spec.kind == "adaboundw" else 0.0
            weight = weight - min(max(rate, lo), hi) * mean - decay
            path[t - 1, index] = weight
    return path, met


def ours(spec: AdaBound | AdaBoundW, factors: list[float]) -> np.ndarray:
    network = torch.nn.ParameterList(
        torch.tensor(START[part], dtype=torch.float64) for part in (slice(0, 5), slice(5, COUNT))
    )
    optimizer = spec.build(network, spec.rate(256))
    path = np.zeros((STEPS, COUNT))
    for step, factor in enumerate(factors):
        for group in optimizer.param_groups:
            group["lr"] = spec.rate(256) * factor
        weights = [value for parameter in network for value in parameter.tolist()]
        slopes = torch.tensor([slope(weight, index, step) for index, weight in enumerate(weights)], dtype=torch.float64)
        network[0].grad, network[1].grad = slopes[:5], slopes[5:]
        optimizer.step()
        path[step] = [value for parameter in network for value in parameter.tolist()]
    return path


@pytest.mark.parametrize(
    "spec",
    [
        AdaBound(lr=1e-3),
        AdaBound(lr_per_256=1e-2, gamma=0.05, final_lr=0.02, weight_decay=5e-2),
        AdaBound(lr=1e-2, gamma=0.02, amsbound=True, betas=(0.8, 0.9), eps=1e-3, weight_decay=1e-2),
        AdaBoundW(lr=1e-2, gamma=0.05, final_lr=0.02, weight_decay=5e-3),
        AdaBoundW(lr=1e-2, gamma=0.02, amsbound=True, weight_decay=1e-3),
    ],
    ids=lambda spec: spec.model_dump_json(exclude_defaults=True),
)
@pytest.mark.parametrize(
    "schedule",
    [
        ScheduleSpec(warmup_epochs=2, decay=Cosine()),
        ScheduleSpec(warmup_epochs=1, warmup="constant", decay=Step(at_epochs=(6, 8))),
        ScheduleSpec(decay=Polynomial(final_factor=0.01)),
    ],
    ids=["linear-cosine", "constant-step", "polynomial"],
)
def test_the_trajectory_of_200_updates(spec: AdaBound | AdaBoundW, schedule: ScheduleSpec) -> None:
    factors = [schedule(update, STEPS, 20) for update in range(1, STEPS + 1)]
    expected, met = reference(spec, factors)
    assert met >= {"lo", "between"} or met >= {"hi", "between"}
    np.testing.assert_allclose(ours(spec, factors), expected, rtol=1e-9, atol=1e-12)


def test_both_bounds_are_met_by_these_gradients() -> None:
    _, met = reference(AdaBound(lr_per_256=1e-2, gamma=0.05, final_lr=0.02), [1.0] * STEPS)
    assert met == {"lo", "hi", "between"}


def one_update(spec: AdaBound | AdaBoundW, gradient: float, factor: float = 1.0, weight: float = 0.0) -> float:
    """How far the first update moves a weight (positive: downwards)."""
    network = torch.nn.ParameterList([torch.tensor([weight], dtype=torch.float64)])
    optimizer = spec.build(network, spec.rate(256))
    for group in optimizer.param_groups:
        group["lr"] = spec.rate(256) * factor
    network[0].grad = torch.tensor([gradient], dtype=torch.float64)
    optimizer.step()
    return weight - network[0].item()


def test_the_first_update_by_hand() -> None:
    """gamma 1 at t = 1: lo = f / 2, hi = 2 f, m = g / 10; Adam's own rate is 1e-3 / (|g| + eps / sqrt(0.001))."""
    spec = AdaBound(lr=1e-3, gamma=1.0)
    assert one_update(spec, 1.0) == pytest.approx(0.05 * 0.1)  # Adam would take 0.01
    assert one_update(spec, 1e-6) == pytest.approx(0.2 * 1e-7)  # Adam would take 7.6e3
    between = 1e-3 * sqrt(1e-3) / 0.1 / (0.1 * sqrt(1e-3) + 1e-8)
    assert 0.05 < between < 0.2 and one_update(spec, 0.1) == pytest.approx(between * 0.01)


@pytest.mark.parametrize("gradient", [1.0, 1e-6, 0.1])
@pytest.mark.parametrize("factor", [0.5, 0.01])
def test_the_schedule_moves_the_bounds(gradient: float, factor: float) -> None:
    spec = AdaBound(lr=1e-3, gamma=1.0)
    assert one_update(spec, gradient, factor) == pytest.approx(factor * one_update(spec, gradient), rel=1e-12)


def test_it_ends_as_sgd_with_a_mean_of_gradients() -> None:
    network = torch.nn.ParameterList([torch.zeros(2, dtype=torch.float64)])
    optimizer = AdaBound(lr=1e-3, gamma=1.0).build(network, 1e-3)
    mean = torch.zeros(2, dtype=torch.float64)
    for step in range(3000):
        before = network[0].detach().clone()
        network[0].grad = torch.tensor([cos(step) * 100, sin(step) / 100], dtype=torch.float64)
        mean = 0.9 * mean + 0.1 * network[0].grad
        optimizer.step()
    torch.testing.assert_close(before - network[0], 0.1 * mean, rtol=1e-3, atol=1e-12)


def test_decoupled_decay_is_not_times_the_rate() -> None:
    assert one_update(AdaBoundW(lr=1e-3, weight_decay=0.25), 0.0, 0.01, weight=2.0) == pytest.approx(0.5)
    with pytest.raises(ValidationError, match="less than 1"):
        AdaBoundW(lr=1e-3, weight_decay=1.0)


def test_the_base_rate_travels_with_the_state() -> None:
    network = torch.nn.ParameterList([torch.zeros(1, dtype=torch.float64)])
    state = AdaBound(lr=1e-3).build(network, 1e-3).state_dict()
    assert [group["base_lr"] for group in state["param_groups"]] == [1e-3]
    other = AdaBound(lr=1e-3).build(network, 1e-5)  # built with a warmup's first rate
    other.load_state_dict(state)
    assert [group["base_lr"] for group in other.param_groups] == [1e-3]


def test_parameters_without_a_gradient_stay_and_keep_their_own_count() -> None:
    network = torch.nn.ParameterList([torch.ones(1), torch.ones(1)])
    optimizer = AdaBound(lr=1e-3).build(network, 1e-3)
    for step in range(3):
        network[0].grad, network[1].grad = torch.ones(1), torch.ones(1) if step == 2 else None
        optimizer.step()
    alone = torch.nn.ParameterList([torch.ones(1)])
    optimizer, alone[0].grad = AdaBound(lr=1e-3).build(alone, 1e-3), torch.ones(1)
    optimizer.step()
    assert torch.equal(network[1], alone[0]) and not torch.equal(network[0], network[1])
