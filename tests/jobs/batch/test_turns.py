"""Which tricks act on a batch: shares, lots, and what the spec says about shares that do not fit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError

from jobs.batch import RICAP, At, BatchTrick, CutMix, Cutout, LabelSmoothing, Mixing, Mixup, acting
from jobs.batch.turns import turn
from jobs.place import Place
from jobs.randomness import generator, key
from jobs.report import Keep
from jobs.spec import JobSpec
from jobs.train import train
from tests import world
from tests.jobs.digits_job import BASE
from tests.jobs.test_train import final_weights, furthest

CUTOUT, SMOOTHING = Cutout(), LabelSmoothing()
MIXUP, CUTMIX, RICAP_ = Mixup(share=0.5), CutMix(share=0.25), RICAP(share=0.125)
TRICKS: tuple[BatchTrick, ...] = (CUTOUT, MIXUP, CUTMIX, SMOOTHING, RICAP_)


def at(step: int, part: int = 0) -> At:
    return At(epoch=0, step=step, part=part, epochs=1, steps=10_000)


def spec(*batch: dict[str, Any]) -> JobSpec:
    return JobSpec.model_validate({**BASE, "batch": list(batch)})


@pytest.mark.parametrize(
    ("lot", "mixing"),
    [
        (0.0, MIXUP),
        (0.4999, MIXUP),
        (0.5, CUTMIX),
        (0.7499, CUTMIX),
        (0.75, RICAP_),
        (0.8749, RICAP_),
        (0.875, None),
        (1 - 2**-53, None),
    ],
)
def test_the_lot_falls_into_one_interval_and_the_order_stays(lot: float, mixing: BatchTrick | None) -> None:
    assert turn(TRICKS, lot) == [trick for trick in TRICKS if trick in (CUTOUT, SMOOTHING, mixing)]


def test_shares_of_nothing_and_of_everything() -> None:
    never, always = Mixup(share=0.0), CutMix()
    for lot in (0.0, 0.5, 1 - 2**-53):
        assert turn((never, always), lot) == turn((always, never), lot) == [always]
        assert turn((CUTOUT, SMOOTHING), lot) == [CUTOUT, SMOOTHING]
        assert turn((), lot) == []


def test_every_trick_has_its_share_of_the_batches() -> None:
    count = 4000
    turns = [acting(TRICKS, 0, at(step)) for step in range(count)]
    for trick, share in [(CUTOUT, 1.0), (SMOOTHING, 1.0), (MIXUP, 0.5), (CUTMIX, 0.25), (RICAP_, 0.125)]:
        seen = sum(trick in chosen for chosen in turns) / count
        assert seen == pytest.approx(share, abs=4 * (share * (1 - share) / count) ** 0.5)


def test_turns_are_a_function_of_seed_step_and_part() -> None:
    def turns(seed: int, part: int) -> list[list[str]]:
        return [[trick.kind for trick in acting(TRICKS, seed, at(step, part))] for step in range(40)]

    assert turns(0, 0) == turns(0, 0)
    assert turns(0, 0) != turns(0, 1)
    assert turns(0, 0) != turns(1, 0)
    lot = torch.rand((), generator=generator(7, "turn", 3, 1), dtype=torch.float64).item()
    assert acting(TRICKS, 7, at(3, 1)) == turn(TRICKS, lot)
    assert key(7, "turn", 3, 1) not in {key(7, trick.kind, 3, 1) for trick in TRICKS}


@pytest.mark.parametrize("tricks", [(), (CUTOUT, SMOOTHING), (CUTOUT, CutMix(), SMOOTHING)])
def test_nothing_is_drawn_where_there_is_nothing_to_choose(tricks: tuple[BatchTrick, ...]) -> None:
    assert acting(tricks, 0, at(0)) is tricks


def test_two_mixing_tricks_must_say_their_shares() -> None:
    with pytest.raises(ValidationError) as caught:
        spec({"kind": "mixup"}, {"kind": "cutmix"})
    assert (
        "batch.mixup.share 1 + batch.cutmix.share 1 = 2 is more than 1: say which share of the batches each gets, "
        "e.g. 0.5 and 0.5" in str(caught.value)
    )
    with pytest.raises(ValidationError, match=r"0\.7 \+ .*cutmix\.share 0\.2 \+ .*ricap\.share 0\.2 = 1\.1 is more"):
        spec({"kind": "mixup", "share": 0.7}, {"kind": "cutmix", "share": 0.2}, {"kind": "ricap", "share": 0.2})
    with pytest.raises(ValidationError, match=r"e\.g\. 0\.33, 0\.33 and 0\.33"):
        spec({"kind": "mixup"}, {"kind": "cutmix"}, {"kind": "ricap"})
    for share in (-0.1, 1.1):
        with pytest.raises(ValidationError, match="share"):
            spec({"kind": "mixup", "share": share})


@pytest.mark.parametrize(
    "shares", [(0.7, 0.2, 0.1), (0.1, 0.2, 0.7), (0.4, 0.35, 0.25), (1.0, 0.0, 0.0), (0.2, 0.2, 0.2)]
)
def test_shares_that_fit_are_taken_whatever_else_stands_there(shares: tuple[float, float, float]) -> None:
    kinds = [{"kind": kind, "share": share} for kind, share in zip(("mixup", "cutmix", "ricap"), shares, strict=True)]
    taken = spec({"kind": "cutout"}, *kinds, {"kind": "random_erasing"}, {"kind": "label_smoothing"}).batch
    assert tuple(trick.share for trick in taken if isinstance(trick, Mixing)) == shares


def test_the_loop_gives_a_trick_only_its_share() -> None:
    """Mixing with a share of 0 is no mixing; with a share between, something else than either."""

    def losses(share: float | None) -> dict[int, float]:
        batch = [] if share is None else [{"kind": "ricap", "share": share}]
        job, report = JobSpec.model_validate({**BASE, "batch": batch, "epochs": 1, "schedule": {}}), Keep()
        train(job, Place(), report, {"data": job.data.open()})
        return report.series("train/loss")

    assert losses(0.0) == losses(None)
    assert losses(0.0) != losses(0.5) != losses(1.0) != losses(0.0)


def everything(**changes: Any) -> JobSpec:
    mixing = [{"kind": kind, "share": 0.3} for kind in ("mixup", "cutmix", "ricap")]
    tricks = [{"kind": "cutout", "size": 3}, {"kind": "random_erasing", "fill": "noise"}, *mixing]
    data = {"kind": "synthetic", "samples": 600, "classes": 3, "size": 9}
    batch = [*tricks, {"kind": "label_smoothing"}]
    fields = {**BASE, "data": data, "batch": batch, "epochs": 2, "precision": "fp64"}
    return JobSpec.model_validate(fields).override({"model.norm": False, **changes})


@pytest.mark.slow
def test_the_loop_gives_two_workers_the_turns_of_one_with_two_parts() -> None:
    one = world.run(1, final_weights, everything(accumulation=2).model_dump_json())[0]
    two = world.run(2, final_weights, everything(**{"resources.workers": 2}).model_dump_json())
    assert furthest(one["weights"], two[0]["weights"]) < 1e-8
