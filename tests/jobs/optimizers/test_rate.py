"""The learning rate: given, or scaled linearly with the global batch; once, at every update."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch.optim.optimizer import register_optimizer_step_pre_hook

from jobs.optimizers import SGD, AdaBound
from jobs.place import Place
from jobs.report import Keep
from jobs.spec import JobSpec
from jobs.specfile import SpecError, read
from jobs.train import train

BASE: dict[str, Any] = {
    "name": "rate",
    "data": {"kind": "digits"},
    "model": {"kind": "cnn", "width": 2},
    "optimizer": {"kind": "sgd", "lr_per_256": 0.08},
    "schedule": {"warmup_epochs": 1.5},
    "epochs": 3,
    "batch_size": 320,
    "precision": "fp32",
}


def test_linear_scaling_by_hand() -> None:
    spec = SGD(lr_per_256=0.1)
    assert [spec.rate(batch) for batch in (256, 1024, 64)] == pytest.approx([0.1, 0.4, 0.025], rel=1e-15)
    assert [SGD(lr=0.1).rate(batch) for batch in (256, 1024, 64)] == [0.1, 0.1, 0.1]


def test_neither_and_both_are_refused() -> None:
    with pytest.raises(ValidationError, match="lr is missing, a number > 0; or give lr_per_256"):
        SGD()
    with pytest.raises(ValidationError, match=r"lr_per_256 0\.2 and lr 0\.1 both .* set it to null"):
        AdaBound(lr=0.1, lr_per_256=0.2)
    with pytest.raises(ValidationError, match="greater than 0"):
        SGD(lr_per_256=0)


def test_a_base_with_lr_is_overridden_by_setting_lr_to_null(tmp_path) -> None:
    spec = JobSpec.model_validate(BASE).override({"optimizer.lr": 0.3, "optimizer.lr_per_256": None})
    assert spec.optimizer.rate(spec.batch_size) == 0.3
    file = tmp_path / "x.yaml"
    file.write_text(spec.model_dump_json(), encoding="utf-8")
    with pytest.raises(SpecError, match=r"-s optimizer\.lr_per_256=0\.4: optimizer: .*\(-s\s+optimizer\.lr=null\)"):
        read(str(file), JobSpec, ["optimizer.lr_per_256=0.4"])
    changed = read(str(file), JobSpec, ["optimizer.lr_per_256=0.4", "optimizer.lr=null"])
    assert changed.optimizer.rate(256) == 0.4


@pytest.mark.parametrize("accumulation", [1, 4])
@pytest.mark.parametrize("warmup", ["linear", "constant"])
def test_the_optimizer_gets_the_scaled_rate_at_every_update(warmup: str, accumulation: int) -> None:
    spec = JobSpec.model_validate(BASE).override({"schedule.warmup": warmup, "accumulation": accumulation})
    seen: list[float] = []

    def look(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        seen.extend({group["lr"] for group in optimizer.param_groups})

    handle = register_optimizer_step_pre_hook(look)
    try:
        data = spec.data.open()
        train(spec, Place(), Keep(), {"data": data})
    finally:
        handle.remove()
    per_epoch = len(data.train) // 320
    assert per_epoch == 4
    base, warm = 0.08 * 320 / 256, 6
    climb = [base * i / warm if warmup == "linear" else base * 0.1 for i in range(1, warm + 1)]
    rest = [base * 0.5 * (1 + torch.cos(torch.tensor(torch.pi * t / 6, dtype=torch.float64)).item()) for t in range(6)]
    assert seen == pytest.approx(climb + rest, rel=1e-12)
    if warmup == "linear":
        assert seen[warm - 1] == pytest.approx(0.1)  # the warmup ends on the scaled rate
