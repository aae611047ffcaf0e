"""Stochastic weight averaging, against torch's own and in a run."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.optim.swa_utils import AveragedModel, update_bn

from jobs.place import Place
from jobs.randomness import generator
from jobs.report import Keep
from jobs.swa import SWA, StochasticAverage
from jobs.train import train
from tests import world
from tests.jobs.digits_job import job
from tests.jobs.test_buffers import outcome_of
from tests.jobs.test_ema import network, trajectory


def autocast() -> torch.autocast:
    return torch.autocast("cpu", enabled=False)


def test_equals_torchs_with_its_statistics() -> None:
    """The last 3 of 5 epochs of 4 updates."""
    source = network()
    ours, theirs = StochasticAverage(SWA(epochs=3), source, epochs=5, per_epoch=4), AveragedModel(source)
    for number, state in enumerate(trajectory(20), 1):
        source.load_state_dict(state)
        ours.update(number)
        assert ours.begun() == (number >= 12)
        if number in (12, 16, 20):
            theirs.update_parameters(source)
    batches = [torch.randn(4, 1, 4, 4, generator=generator("batch", number)) for number in range(6)]
    ours.renew(batches, autocast)
    update_bn(batches, theirs)
    for name, value in theirs.module.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(ours.network.state_dict()[name], value, msg=name)
    assert ours.network[1].num_batches_tracked == source[1].num_batches_tracked == 20, "updates, whatever the parts"
    assert ours.network[1].momentum == 0.1
    mean = ours.network[1].running_mean.clone()
    ours.renew([batches[0]], autocast)
    assert torch.equal(mean, ours.network[1].running_mean), "once for the same weights"


def test_a_run_keeps_the_average_and_holds_the_rate() -> None:
    spec, report = job(epochs=4, swa={"epochs": 2, "lr": 0.01}, batch=[]), Keep()
    outcome = train(spec, Place(), report, {"data": spec.data.open()})
    assert [rate == 0.01 for rate in report.series("lr").values()] == [False, False, True, True]
    last = report.checkpoints[-1].tree
    ends = [state.tree["network"] for state in report.checkpoints[-2:]]
    assert outcome.network is not None and outcome.test is not None and outcome.test.top1 > 0.5
    for name, parameter in outcome.network.named_parameters():
        torch.testing.assert_close(parameter, (ends[0][name] + ends[1][name]) / 2)
    assert last["average"]["taken"] == 2


DROPPED = {"kind": "resnet", "depth": 8, "width": 8, "variant": "D", "drop_path": 0.5}


@pytest.mark.parametrize("model", [{"kind": "cnn", "width": 8}, DROPPED], ids=["plain", "stochastic depth"])
def test_workers_with_equal_parts_and_a_resumed_run_keep_the_same(model: dict[str, Any]) -> None:
    common = {"precision": "fp64", "swa": {"epochs": 2}, "batch": [{"kind": "label_smoothing"}], "model": model}
    one = world.run(1, outcome_of, job(accumulation=2, **common).model_dump_json())[0]
    two = world.run(2, outcome_of, job(resources__workers=2, **common).model_dump_json())[0]
    assert one["values"] == pytest.approx(two["values"], rel=0, abs=1e-12)
    for name, value in one["weights"].items():
        torch.testing.assert_close(two["weights"][name], value, rtol=0, atol=1e-12, msg=name)
    spec, report = job(**common), Keep()
    data = spec.data.open()
    whole = train(spec, Place(), report, {"data": data}).network
    for state in report.checkpoints:
        again = train(spec, Place(), Keep(), {"data": data}, state).network
        assert whole is not None and again is not None
        for name, value in whole.state_dict().items():
            assert torch.equal(value, again.state_dict()[name]), (state.step, name)


def test_networks_without_batchnorm_need_no_pass() -> None:
    average = StochasticAverage(SWA(epochs=1), nn.Linear(2, 2), 1, 1)
    average.update(1)
    average.renew((pytest.fail("not needed") for _ in range(1)), autocast)


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"ema": {}}, "swa and ema both say"), ({"swa__epochs": 9}, "swa.epochs 9 must be at most epochs")],
)
def test_what_does_not_go_together_is_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        job(**{"swa": {"epochs": 1}, **changes})
