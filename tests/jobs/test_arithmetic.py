"""Layout and precision reach the kernels: of networks and of all tricks in training, and of what is scored."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

from jobs import specfile
from jobs.__main__ import main
from jobs.place import Place
from jobs.report import Keep
from jobs.spec import JobSpec
from jobs.train import train
from tests import world
from tests.jobs.digits_job import job

DATA = {"kind": "synthetic", "samples": 120, "size": 32, "classes": 4}
NETWORKS: list[dict[str, Any]] = [
    {"kind": "cnn", "width": 8},
    {"kind": "resnet", "depth": 8, "width": 8, "variant": "D", "drop_path": 0.2},
    {"kind": "timm", "name": "test_resnet"},
    {"kind": "torchvision", "name": "mobilenet_v3_small"},
]
TRICKS = ("cutout", "random_erasing", "mixup", "cutmix", "ricap")


@contextmanager
def convolutions() -> Iterator[list[tuple[bool, torch.Tensor]]]:
    """Whether each call of a convolution trains, and its input and output of more than one channel and pixel."""
    seen: list[tuple[bool, torch.Tensor]] = []

    def look(module: nn.Module, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        if isinstance(module, nn.Conv2d):
            seen.extend((module.training, each.detach()) for each in (args[0], output) if min(each.shape[1:3]) > 1)

    hook = register_module_forward_hook(look)  # type: ignore[arg-type]
    try:
        yield seen
    finally:
        hook.remove()


def run(spec: JobSpec) -> None:
    train(spec, Place(), Keep(), {"data": spec.data.open()})


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.get("name", network["kind"]))
def test_every_convolution_has_the_layout(network: dict[str, Any], channels_last: bool) -> None:
    common: dict[str, Any] = {"epochs": 1, "schedule__warmup_epochs": 0, "augment": [], "data": DATA}
    tricks = [[{"kind": kind}] for kind in TRICKS] if network["kind"] == "cnn" else [[]]
    layout = torch.channels_last if channels_last else torch.contiguous_format
    for batch in (*tricks, [{"kind": "mixup", "per": "sample"}]):
        with convolutions() as seen:
            run(job(model=network, batch=batch, channels_last=channels_last, **common))
        assert {trains for trains, _ in seen} == {True, False}
        assert all(each.is_contiguous(memory_format=layout) for _, each in seen), batch


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp64", torch.float64)])
@pytest.mark.parametrize("average", [{}, {"ema": {}}, {"swa": {"epochs": 1}}], ids=str)
def test_what_is_scored_has_the_precision(precision: str, dtype: torch.dtype, average: dict[str, Any]) -> None:
    with convolutions() as seen:
        run(job(epochs=1, schedule__warmup_epochs=0, precision=precision, evaluation__flip=True, **average))
    for trains in (True, False):
        outputs = [each.dtype for training, each in seen if training == trains][1::2]
        assert outputs and set(outputs) == {dtype}


def test_a_run_that_is_resumed_by_itself_refuses_another_arithmetic(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It keeps the one that it began with, so another one in the spec would do nothing."""
    path, output = str(tmp_path / "x.yaml"), str(tmp_path / "out")
    Path(path).write_text(specfile.dump(job(epochs=2)))
    main([path, "-o", output, "-s", "precision=fp32", "-s", "channels_last=auto"])
    for change, words in (("precision=fp64", "precision is 'fp32'"), ("channels_last=false", "channels_last is True")):
        with pytest.raises(SystemExit, match="2"):
            main([path, "-o", output, "-s", "epochs=3", "-s", change])
        assert f"{words} there to the end of the run; leave it out, or take another folder" in capsys.readouterr().err
    main([path, "-o", output, "-s", "epochs=3", "-s", "precision=auto", "-s", "channels_last=true"])
    assert "epoch 3:" in capsys.readouterr().out


def precision_of(with_bf16: list[int]) -> str:
    """What a rank trained with where these have bf16; pretended, for all processors here are one."""
    place = Place.current(use_gpu=False)
    spec = job(epochs=1, schedule__warmup_epochs=0, precision="auto", resources__workers=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jobs.precision._has_bf16", lambda device: place.rank in with_bf16)
        return train(spec, place, Keep(), {"data": spec.data.open()}).spec.precision


@pytest.mark.parametrize(("with_bf16", "precision"), [([0], "fp32"), ([1], "fp32"), ([0, 1], "bf16")])
def test_ranks_on_unlike_processors_choose_one_arithmetic(with_bf16: list[int], precision: str) -> None:
    assert world.run(2, precision_of, with_bf16) == [precision, precision]
