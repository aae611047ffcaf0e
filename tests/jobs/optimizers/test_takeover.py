"""Weights and momenta of one configuration under another's settings, as population based training asks for."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from jobs.place import Place
from jobs.run import Run
from jobs.spec import JobSpec

BASE: dict[str, Any] = {
    "name": "takeover",
    "data": {"kind": "digits"},
    "model": {"kind": "cnn", "width": 4},
    "epochs": 3,
    "batch_size": 128,
    "precision": "fp32",
    "channels_last": False,
}


def begun(**optimizer: Any) -> Run:
    spec = JobSpec.model_validate({**BASE, "optimizer": optimizer})
    data = spec.data.open()
    return Run(spec, data, Place(), spec.steps(len(data.train)), {"data": data})


@pytest.mark.parametrize("kind", ["sgd", "adamw", "adabound"])
def test_settings_are_ones_own_and_what_was_learned_is_the_other_s(kind: str) -> None:
    no_decay = ["bias", "norm"]
    donor = begun(kind=kind, lr=0.05, weight_decay=0.1, no_decay=no_decay)
    x = torch.randn(16, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.nn.functional.cross_entropy(donor.trained(x), torch.arange(16) % 10).backward()
    donor.update(0.05)
    state = donor.state()
    assert state is not None
    taker, same = (begun(kind=kind, lr=0.01, weight_decay=decay, no_decay=no_decay) for decay in (0.3, 0.1))
    taker.load(state)
    same.load(state)
    assert sorted({group["weight_decay"] for group in taker.optimizer.param_groups}) == [0.0, 0.3]
    assert sorted({group["weight_decay"] for group in same.optimizer.param_groups}) == [0.0, 0.1]
    assert taker.lr == taker.spec.lr_at(2, taker.steps) and taker.spec.optimizer.lr == 0.01
    pairs = zip(donor.network.parameters(), taker.network.parameters(), strict=True)
    for mine, other in pairs:
        assert torch.equal(mine, other)
        before, after = donor.optimizer.state[mine], taker.optimizer.state[other]
        assert before.keys() == after.keys() and before
        assert all(torch.equal(torch.as_tensor(before[name]), torch.as_tensor(after[name])) for name in before)
