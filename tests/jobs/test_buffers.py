"""Running statistics: the same however the parts of a batch are spread over workers and accumulation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import nn

from jobs import buffers
from jobs.models.sync import synchronise
from jobs.place import Place
from jobs.randomness import generator
from jobs.report import Keep
from jobs.spec import JobSpec
from jobs.train import train
from tests import world
from tests.jobs.digits_job import job


def outcome_of(spec_json: str) -> dict[str, Any]:
    """One rank's run: the kept network, everything reported but times, and what evaluation chose."""
    spec, report = JobSpec.model_validate_json(spec_json), Keep()
    outcome = train(spec, Place.current(use_gpu=False), report, {"data": spec.data.open()})
    assert outcome.network is not None
    values = {
        f"{record.name} {record.step}": record.value
        for record in report.records
        if record.name.startswith(("train/loss", "val/", "test/"))
    }
    kept = report.checkpoints[-1].tree["best"] if report.checkpoints else []
    return {"weights": dict(outcome.network.state_dict()), "values": values, "best": kept}


@pytest.mark.slow
@pytest.mark.parametrize("ema", [None, {"decay": 0.9}], ids=["weights", "ema"])
def test_workers_with_equal_parts_have_equal_statistics_scores_and_choices(ema: dict[str, Any] | None) -> None:
    common: dict[str, Any] = {
        "precision": "fp64",
        "ema": ema,
        "select": "best",
        "batch": [{"kind": kind} for kind in ("cutout", "random_erasing", "label_smoothing")],
        "batch__cutout__size": 2,
    }
    runs = {
        workers: world.run(
            workers,
            outcome_of,
            job(resources__workers=workers, accumulation=4 // workers, **common).model_dump_json(),
        )
        for workers in (1, 2, 4)
    }
    one = runs[1][0]
    assert one["best"][0] > 0.5 and any(name.endswith("running_var") for name in one["weights"])
    for workers, ranks in runs.items():
        assert ranks[0]["best"] == one["best"], workers
        assert ranks[0]["values"] == pytest.approx(one["values"], rel=0, abs=1e-12), workers
        for rank in ranks:
            for name, value in one["weights"].items():
                torch.testing.assert_close(rank["weights"][name], value, rtol=0, atol=1e-12, msg=name)


def test_by_hand() -> None:
    """Statistics move by the momentum once an update, towards the mean over its parts."""
    network = nn.BatchNorm1d(2, momentum=0.3, dtype=torch.float64)
    parts, plain = buffers.Parts(network, 3), nn.BatchNorm1d(2, momentum=1.0, dtype=torch.float64)
    expected = {"running_mean": network.running_mean.clone(), "running_var": network.running_var.clone()}
    for update in range(2):
        seen: dict[str, list[torch.Tensor]] = {name: [] for name in expected}
        for part in range(3):
            x = torch.randn(5, 2, generator=generator("parts", update, part), dtype=torch.float64)
            with parts.part(part):
                network(x)
            plain(x)
            for name in expected:
                seen[name].append(plain.get_buffer(name).clone())
        for name, value in expected.items():
            expected[name] = 0.7 * value + 0.3 * torch.stack(seen[name]).mean(0)
            torch.testing.assert_close(network.get_buffer(name), expected[name], rtol=1e-14, atol=1e-14)
    assert network.num_batches_tracked == 2


def test_synchronised_two_workers_equal_one_with_the_whole_batch() -> None:
    common: dict[str, Any] = {"precision": "fp64", "batch": [{"kind": "label_smoothing"}], "epochs": 2}
    one = world.run(1, outcome_of, job(**common).model_dump_json())[0]
    two = world.run(2, outcome_of, job(resources__workers=2, model__sync_batchnorm=True, **common).model_dump_json())
    apart = world.run(2, outcome_of, job(resources__workers=2, **common).model_dump_json())[0]
    assert two[0]["values"] == pytest.approx(one["values"], rel=0, abs=1e-9)
    for name, value in one["weights"].items():
        torch.testing.assert_close(two[1]["weights"][name], value, rtol=0, atol=1e-9, msg=name)
    assert apart["values"]["train/loss 2"] != pytest.approx(one["values"]["train/loss 2"], abs=1e-6)


def in_16_bits() -> dict[str, torch.Tensor]:
    """A rank's half of a batch under autocast by a synchronised BatchNorm, and by torch's own that has all of it."""
    place, x = Place.current(use_gpu=False), 10 + 2 * torch.randn(16, 4, 5, 5, generator=generator("16 bits"))
    mine, whole = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
    synchronise(mine, place.device)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = {"y": mine(x.bfloat16().chunk(2)[place.rank]), "expected": whole(x.bfloat16()).chunk(2)[place.rank]}
    return found | {name: getattr(mine, name) - getattr(whole, name) for name in ("running_mean", "running_var")}


def test_synchronised_statistics_of_16_bits_are_float32() -> None:
    for found in world.run(2, in_16_bits):
        assert found["y"].dtype == found["expected"].dtype == torch.bfloat16
        torch.testing.assert_close(found["y"], found["expected"], rtol=2**-7, atol=1e-3)
        assert max(float(found[name].abs().max()) for name in ("running_mean", "running_var")) < 1e-5


def test_what_cannot_be_synchronised_is_named() -> None:
    with pytest.raises(ValueError, match="a BatchNormAct2d cannot be synchronised on a CPU"):
        synchronise(nn.Sequential(BatchNormAct2d(3)), torch.device("cpu"))


class Odd(nn.Module):
    """Buffers of every sort: statistics, a constant that no sum of it gives back, a mask, a counter, a truth."""

    def __init__(self, rank: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.full((2, 3), float(rank)))
        self.register_buffer("constant", torch.full((3,), 0.1))
        self.register_buffer("mask", torch.tensor([0.0, float("-inf")]), persistent=False)
        self.register_buffer("count", torch.tensor(7 + rank))
        self.register_buffer("flag", torch.tensor([True, False]))


def averaged() -> dict[str, torch.Tensor]:
    place = Place.current(use_gpu=False)
    network = Odd(place.rank)
    rows = buffers.gather([network], place)
    buffers.average(network, place)
    result = dict(network.named_buffers())
    again = Odd(9)
    buffers.restore([again], place, rows)
    assert again.mean.eq(place.rank).all(), "each rank gets its own back"
    fewer = Odd(9)
    buffers.restore([fewer], Place(), rows)
    assert torch.equal(fewer.mean, network.mean) and torch.equal(fewer.constant, network.constant)
    return result


def test_what_is_equal_on_all_ranks_stays_as_it_is() -> None:
    for found in world.run(3, averaged):
        assert found["mean"].eq(1.0).all() and found["count"] == 7
        for name in ("constant", "mask", "flag"):
            assert torch.equal(found[name], dict(Odd(0).named_buffers())[name]), name
