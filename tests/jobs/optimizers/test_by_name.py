"""Optimizers of torch and timm by name: what is built, what is refused, and how it is said."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import timm.optim
import torch
from pydantic import ValidationError

from jobs.checkpoint import State, Store, snapshot
from jobs.optimizers import Timm, Torch
from jobs.optimizers.library import Library
from tests.jobs.optimizers.nets import backward, small


def updates(network: torch.nn.Module, optimizer: torch.optim.Optimizer, numbers: range) -> None:
    for number in numbers:
        backward(network, number)
        optimizer.step()


def test_same_updates_as_the_library_makes() -> None:
    for spec, theirs in (
        (
            Torch(lr=1e-2, name="RMSprop", weight_decay=0.1, kwargs={"momentum": 0.5}),
            lambda parameters: torch.optim.RMSprop(parameters, lr=1e-2, weight_decay=0.1, momentum=0.5),
        ),
        (
            Timm(lr=1e-2, name="lamb", weight_decay=0.1, kwargs={"betas": [0.8, 0.9]}),
            lambda parameters: timm.optim.Lamb(list(parameters), lr=1e-2, weight_decay=0.1, betas=(0.8, 0.9)),
        ),
        (
            Timm(lr=1e-2, name="rmsproptf"),
            lambda parameters: timm.optim.create_optimizer_v2(list(parameters), "rmsproptf", lr=1e-2),
        ),
        (Timm(lr=1e-2, name="sgd"), lambda ps: timm.optim.create_optimizer_v2(list(ps), "sgd", lr=1e-2)),
    ):
        mine, other = small(), small()
        for network, optimizer in ((mine, spec.build(mine, 1e-2)), (other, theirs(other.parameters()))):
            updates(network, optimizer, range(3))
        assert all(torch.equal(a, b) for a, b in zip(mine.parameters(), other.parameters(), strict=True)), spec.name


@pytest.mark.parametrize(
    ("kind", "name", "near"), [(Torch, "rmsprop", "RMSprop"), (Torch, "NAdm", "NAdam"), (Timm, "lambb", "lamb")]
)
def test_unknown_name_suggests_the_nearest(kind: type[Library], name: str, near: str) -> None:
    spec = kind(lr=0.1, name=name)  # parsing does not look it up
    with pytest.raises(ValueError, match=rf"{spec.kind} has no optimizer '{name}'; did you mean .*\b{near}\b"):
        spec.build(small(), 0.1)
    with pytest.raises(ValueError, match="see the library's list"):
        kind(lr=0.1, name="zzzzzzz").build(small(), 0.1)


@pytest.mark.parametrize(
    ("kind", "name", "why"),
    [
        (Torch, "LBFGS", "evaluates the loss several times"),
        (Torch, "SparseAdam", "sparse gradients"),
        (Torch, "Optimizer", "base of the others"),
        (Timm, "adahessian", "second order"),
        (Timm, "kron", "generator of its own"),
    ],
)
def test_what_the_loop_cannot_drive_is_refused_at_once(kind: type[Library], name: str, why: str) -> None:
    with pytest.raises(ValidationError, match=rf"{name} cannot be used here: .*{why}"):
        kind(lr=0.1, name=name)


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        (Torch(lr=0.1, name="Muon"), r"torch Muon refuses optimizer.kwargs \(none\) or this network: .*2D"),
        (Torch(lr=0.1, name="Adam", kwargs={"beta": 0.9}), r"torch Adam refuses optimizer.kwargs \(beta=0.9\).*'beta'"),
        (Timm(lr=0.1, name="lion", kwargs={"momentum": 0.9}), r"timm lion refuses .*momentum=0.9.*'momentum'"),
        (Torch(lr=0.1, name="Rprop", weight_decay=0.1), "Rprop has no weight decay; set optimizer.weight_decay to 0"),
        (Timm(lr=0.1, name="fusedlamb"), "needs the package apex"),
        (Timm(lr=0.1, name="bnbadam8bit"), "needs the package bitsandbytes"),
        (Timm(lr=0.1, name="adafactorbv"), "keeps momentum_dtype .* which a checkpoint without pickle cannot hold"),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_what_cannot_be_built_says_why(spec: Library, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        spec.build(small(), 0.1)


@pytest.mark.parametrize("kind", [Torch, Timm])
@pytest.mark.parametrize(
    ("name", "cure"),
    [
        ("lr", "field of the optimizer"),
        ("weight_decay", "field of the optimizer"),
        ("params", "follows from the model"),
        ("fused", "how fast"),
        ("foreach", "how fast"),
        ("maximize", "leave it out"),
    ],
)
def test_reserved_kwargs_are_refused(kind: type[Library], name: str, cure: str) -> None:
    with pytest.raises(ValidationError, match=rf"{name} 3 cannot be given here: .*{cure}"):
        kind(lr=0.1, name="adam", kwargs={name: 3})


def test_parsing_imports_neither_torch_nor_timm() -> None:
    code = (
        "import sys; from jobs.optimizers import AdaBound, Timm, Torch; AdaBound(lr=1); "
        "Timm(lr=1, name='nothing'); Torch(lr=1, name='nothing', kwargs={'a': [1, {'b': None}]}); "
        "print([name for name in ('torch', 'timm') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_name_of_theirs_trains_and_resumes_or_says_why_not(tmp_path: Path) -> None:
    names = [(Timm, name) for name in timm.optim.list_optimizers()]
    names += [(Torch, name) for name in dir(torch.optim) if isinstance(getattr(torch.optim, name), type)]
    trained, refused, store = set(), {}, Store(str(tmp_path), keep=1)
    for number, (kind, name) in enumerate(names):
        network = small()
        before = network[8].weight.detach().clone()
        try:
            optimizer = kind(lr=1e-3, name=name).build(network, 1e-3)
        except ValueError as error:
            refused[name] = str(error)
            continue
        updates(network, optimizer, range(3))
        assert network[8].weight.isfinite().all() and not torch.equal(before, network[8].weight), name
        store.save(State(number, snapshot({"network": network.state_dict(), "optimizer": optimizer.state_dict()})))
        store.wait()
        updates(network, optimizer, range(3, 5))
        resumed, tree = small(), store.read(number).tree
        resumed.load_state_dict(tree["network"])
        optimizer = kind(lr=1e-3, name=name).build(resumed, 1e-3)
        optimizer.load_state_dict(tree["optimizer"])
        updates(resumed, optimizer, range(3, 5))
        assert all(torch.equal(a, b) for a, b in zip(network.parameters(), resumed.parameters(), strict=True)), name
        trained.add(name)
    assert {"lamb", "lion", "muon", "novograd", "RMSprop", "Adafactor", "NAdam"} <= trained
    assert {"LBFGS", "Muon", "adahessian", "kron", "fusedadam"} <= set(refused)
    reasons = "cannot be used here|needs the package|Muon only supports 2D"
    assert all(re.search(reasons, why) for why in refused.values()), refused
