"""Sharpness-aware minimisation: by hand, against the definition written out in full, and over workers."""

from __future__ import annotations

import pytest
import torch

from jobs.batch import At
from jobs.place import Place
from jobs.report import Keep
from jobs.run import Run
from jobs.sam import ascend, climb
from jobs.spec import JobSpec
from jobs.train import train
from tests import world
from tests.jobs.digits_job import job
from tests.jobs.test_buffers import outcome_of


def test_the_step_by_hand() -> None:
    first, second = climb([torch.tensor([3.0, 0.0]), torch.tensor([[4.0]])], 0.5)
    assert first.tolist() == pytest.approx([0.3, 0.0]) and second.tolist() == [[pytest.approx(0.4)]]
    overflowed = climb([torch.tensor([1.0]), torch.tensor([torch.inf, torch.nan])], 0.5)
    assert [each.tolist() for each in overflowed] == [[0.0], [0.0, 0.0]]
    assert climb([torch.zeros(2)], 0.5)[0].tolist() == [0.0, 0.0]


def test_an_update_is_the_definitions() -> None:
    """w + rho g / |g|, the gradient there, and plain SGD from w; statistics of the first pass."""
    spec = job(
        precision="fp64", sam={"rho": 0.1}, optimizer={"kind": "sgd", "lr": 0.1, "nesterov": False, "momentum": 0.0}
    )
    data = spec.data.open()
    run = Run(spec, data, Place(), spec.steps(len(data.train)), {"data": data})
    reference = Run(spec, data, Place(), run.steps, {"data": data}).network
    run.enter(0)
    x = torch.randn(16, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    y = torch.eye(10, dtype=torch.float64)[torch.arange(16) % 10]
    at = At(0, 0, 0, 1, 1)
    run.backward(x, y, at)
    assert run.spec.sam is not None
    ascend(run.network, run.spec.sam.rho, run._again)

    def gradient() -> list[torch.Tensor]:
        loss = torch.nn.functional.cross_entropy(reference.train()(x), y)
        return list(torch.autograd.grad(loss, list(reference.parameters())))

    first = gradient()
    statistics = [buffer.clone() for buffer in reference.buffers()]
    norm = torch.sqrt(sum((each**2).sum() for each in first))
    with torch.no_grad():
        weights = [parameter.clone() for parameter in reference.parameters()]
        for parameter, each in zip(reference.parameters(), first, strict=True):
            parameter += 0.1 * each / norm
    second = gradient()
    for parameter, weight, each in zip(run.network.parameters(), weights, second, strict=True):
        assert torch.equal(parameter, weight), "the weights are where they were"
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, each, rtol=1e-10, atol=1e-13)
    for buffer, expected in zip(run.network.buffers(), statistics, strict=True):
        torch.testing.assert_close(buffer, expected, rtol=1e-12, atol=1e-14)


def test_workers_with_equal_parts_learn_alike() -> None:
    common = {"precision": "fp64", "sam": {}, "batch": [{"kind": "label_smoothing"}], "epochs": 2}
    one = world.run(1, outcome_of, job(accumulation=2, **common).model_dump_json())[0]
    two = world.run(2, outcome_of, job(resources__workers=2, **common).model_dump_json())[0]
    plain = world.run(1, outcome_of, job(accumulation=2, **{**common, "sam": None}).model_dump_json())[0]
    assert one["values"] == pytest.approx(two["values"], rel=0, abs=1e-11)
    assert one["values"]["train/loss 2"] != plain["values"]["train/loss 2"]


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_it_learns_in_16_bits(precision: str) -> None:
    spec: JobSpec = job(epochs=4, precision=precision, sam={})
    outcome = train(spec, Place(), Keep(), {"data": spec.data.open()})
    assert outcome.test is not None and outcome.test.top1 > 0.5
