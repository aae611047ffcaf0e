"""Tricks that do not go together are refused with the reason and the cure, before anything runs."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from tests.jobs.digits_job import job

CONFLICTS: list[tuple[dict[str, Any], str]] = [
    (
        {"batch": [{"kind": "mixup"}, {"kind": "cutmix"}]},
        r"batch\.mixup\.share 1 \+ batch\.cutmix\.share 1 = 2 is more than 1: say which share of the batches each gets",
    ),
    (
        {"batch": [{"kind": "mixup", "share": 0.6}, {"kind": "ricap", "share": 0.6}]},
        r"0\.6 \+ batch\.ricap\.share 0\.6 = 1\.2 is more than 1",
    ),
    ({"batch": [{"kind": "label_smoothing"}, {"kind": "label_smoothing"}]}, "label_smoothing appears more often"),
    ({"loss": {"kind": "bce"}, "batch": [{"kind": "mixup"}]}, "loss.soft_targets: true"),
    ({"loss": {"kind": "bce"}, "batch": [{"kind": "label_smoothing"}]}, "loss.target_threshold"),
    ({"loss": {"kind": "bce", "soft_targets": True, "target_threshold": 0.2}}, "give one of the two"),
    ({"schedule__warmup_epochs": 3}, "warmup_epochs 3 must be less than epochs 3"),
    ({"model__zero_gamma": True}, "zero_gamma"),
    ({"optimizer__lr_per_256": 0.1}, "both give the learning rate"),
    ({"optimizer__nesterov": True, "optimizer__momentum": 0.0}, "nesterov needs a momentum"),
    ({"augment": [{"kind": "flip"}, {"kind": "random_resized_crop"}]}, "must stand first in augment"),
    ({"batch_size": 63, "accumulation": 2}, "the nearest that does is"),
]


@pytest.mark.parametrize(("changes", "message"), CONFLICTS)
def test_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        job(**changes)


def test_shares_that_fit_are_taken() -> None:
    spec = job(batch=[{"kind": "mixup", "share": 0.5}, {"kind": "cutmix", "share": 0.5}, {"kind": "label_smoothing"}])
    assert [trick.kind for trick in spec.batch] == ["mixup", "cutmix", "label_smoothing"]


def test_zero_gamma_of_a_plain_net_by_name_is_refused_when_it_is_built() -> None:
    from jobs.models import Torchvision

    with pytest.raises(ValueError, match="residual"):
        Torchvision(name="vgg11_bn", zero_gamma=True).build(10, 3)
