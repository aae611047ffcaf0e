"""Every kind of optimizer keeps the contract of ``jobs.optimizers.optimizer``, at the ends of its ranges too."""

from pathlib import Path
from typing import get_args

import pytest
import torch
from pydantic import TypeAdapter

from jobs.checkpoint import State, Store, snapshot
from jobs.optimizers import SGD, AdaBound, AdaBoundW, Adam, AdamW, Optimizer, OptimizerSpec, Timm, Torch
from jobs.optimizers.parameters import arrange
from tests.jobs.optimizers.nets import backward, small

ENDS = {"betas": (0.0, 0.0), "eps": 1e-30}, {"betas": (1 - 1e-9, 1 - 1e-9), "eps": 1.0}
ORDINARY: list[Optimizer] = [
    SGD(lr=0.1, weight_decay=1e-4, no_decay=("bias", "norm")),
    SGD(lr_per_256=0.1, momentum=0.0, nesterov=False),
    *(kind(lr=1e-3, weight_decay=1e-2, no_decay=("norm",)) for kind in (Adam, AdamW, AdaBound, AdaBoundW)),
    AdaBound(lr_per_256=1e-3, amsbound=True),
    Torch(lr=1e-3, name="RMSprop", kwargs={"momentum": 0.9}, weight_decay=1e-4),
    Torch(lr=1e-3, name="NAdam", kwargs={"betas": [0.8, 0.9]}, no_decay=("bias",)),
    Torch(lr=1e-3, name="Rprop"),
    Timm(lr=5e-3, name="lamb", weight_decay=0.02, no_decay=("bias", "norm")),
    Timm(lr_per_256=1e-4, name="lion"),
    Timm(lr=1e-2, name="muon"),
    *(kind(lr=1e-3, weight_decay=1e-2, layer_decay=0.5) for kind in (SGD, Adam, AdamW, AdaBound, AdaBoundW)),
    Torch(lr=1e-3, name="Rprop", layer_decay=0.8),
    Timm(lr=1e-2, name="muon", layer_decay=0.8, no_decay=("norm",)),
    Timm(lr=1e-2, name="sgdp", kwargs={"momentum": 0.0, "nesterov": False}),
]
EXTREME: list[Optimizer] = [
    SGD(lr=0.1, momentum=1 - 1e-9, clip_norm=1e-9),
    SGD(lr=1e-30, weight_decay=1e6),
    SGD(lr=0.1, layer_decay=1.0),
    AdamW(lr=1e-3, layer_decay=1e-30),
    *(kind(lr_per_256=1e-3, **end) for kind in (Adam, AdamW, AdaBound, AdaBoundW) for end in ENDS),
    *(kind(lr=1e-3, amsbound=True, gamma=1.0, final_lr=1e-30) for kind in (AdaBound, AdaBoundW)),
    *(kind(lr=1e-3, amsbound=True, gamma=1e-8, final_lr=1e4) for kind in (AdaBound, AdaBoundW)),
    AdaBoundW(lr=1e-3, weight_decay=1 - 1e-9),
]
EXAMPLES = ORDINARY + EXTREME
BATCH = 64

each = pytest.mark.parametrize("spec", EXAMPLES, ids=lambda spec: spec.model_dump_json(exclude_defaults=True))


def test_every_kind_has_an_example() -> None:
    assert {type(spec) for spec in EXAMPLES} == set(get_args(get_args(OptimizerSpec)[0]))


@each
def test_json_round_trip(spec: Optimizer) -> None:
    assert TypeAdapter(OptimizerSpec).validate_json(spec.model_dump_json()) == spec


@each
def test_an_update_moves_every_parameter_and_keeps_it_finite(spec: Optimizer) -> None:
    network = small()
    before = [parameter.detach().clone() for parameter in network.parameters()]
    optimizer = spec.build(network, spec.rate(BATCH))
    assert {group["lr"] for group in optimizer.param_groups} == {spec.rate(BATCH)}
    backward(network, 1)
    optimizer.step()
    for old, parameter in zip(before, network.parameters(), strict=True):
        assert parameter.isfinite().all()
        assert spec in EXTREME or not torch.equal(old, parameter)


@each
def test_gradients_of_zero_keep_it_finite(spec: Optimizer) -> None:
    network = small()
    optimizer = spec.build(network, spec.rate(BATCH))
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    for _ in range(3):
        optimizer.step()
    assert all(parameter.isfinite().all() for parameter in network.parameters())


@each
def test_every_trainable_parameter_is_in_one_group_and_frozen_ones_in_none(spec: Optimizer) -> None:
    network = small()
    frozen = list(network[0].parameters())
    for parameter in frozen:
        parameter.requires_grad_(False)
    optimizer = spec.build(network, spec.rate(BATCH))
    held = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
    assert sorted(held) == sorted(id(parameter) for parameter in network.parameters() if parameter.requires_grad)


@each
def test_a_run_that_went_through_a_checkpoint_goes_on_bit_for_bit(spec: Optimizer, tmp_path: Path) -> None:
    def updates(network: torch.nn.Module, optimizer: torch.optim.Optimizer, numbers: range) -> None:
        for number in numbers:
            for group in optimizer.param_groups:
                group["lr"] = spec.rate(BATCH) * (1 - number / 10)
            backward(network, number)
            optimizer.step()

    whole = small()
    optimizer = spec.build(whole, spec.rate(BATCH))
    updates(whole, optimizer, range(1, 4))
    store = Store(str(tmp_path))
    store.save(State(3, snapshot({"network": whole.state_dict(), "optimizer": optimizer.state_dict()})))
    store.wait()
    updates(whole, optimizer, range(4, 7))

    resumed = small()
    tree = store.read(3).tree
    resumed.load_state_dict(tree["network"])
    optimizer = spec.build(resumed, spec.rate(BATCH))
    optimizer.load_state_dict(tree["optimizer"])
    arrange(optimizer)
    updates(resumed, optimizer, range(4, 7))
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
