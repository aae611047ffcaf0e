"""Whether compiling pays: the arithmetic by hand, the probe with the real compiler."""

from __future__ import annotations

import shutil
from typing import Any

import pytest
import torch

from jobs.batch import LabelSmoothing
from orchestrator.execution.compiling import Probe, decide, probe
from orchestrator.execution.speed import images_per_s
from tests.orchestrator.real import job

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("seen", "images", "pays"),
    [
        (Probe(100.0, 125.0, 20.0), 10_100, True),  # saves 2 ms an image, so 20 s after 10,000 of them
        (Probe(100.0, 125.0, 20.0), 9_900, False),
        (Probe(100.0, 102.0, 0.0), 1e9, False),  # within the noise
        (Probe(100.0, 80.0, 0.0), 1e9, False),
        (Probe(100.0), 1e9, False),
    ],
)
def test_it_pays_where_what_is_saved_is_more_than_it_costs(seen: Probe, images: float, pays: bool) -> None:
    assert seen.pays(images) is pays


def test_the_probe_compiles_and_times_both_ways() -> None:
    spec = job("resources.workers=1", "compile=auto")
    seen = probe(spec, spec.data.open(), 1e9)
    assert seen.plain > 0
    assert shutil.which("g++") is None or (seen.trouble is None and seen.compiled > 0)


def test_where_it_cannot_be_compiled_it_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(network: Any, **how: Any) -> Any:  # a mock: the machine of the tests has a compiler
        raise RuntimeError("no C++ compiler\nmore")

    monkeypatch.setattr(torch, "compile", refuse)
    spec = job("resources.workers=1", "compile=auto")
    seen = probe(spec, spec.data.open(), 1e9)
    assert not seen.pays(1e9)
    assert seen.words(1e9) == "compile auto: no, it cannot be done here (no C++ compiler)"


def test_the_probe_makes_the_tricks_of_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[float] = []
    real = LabelSmoothing.__call__

    def smooth(self: LabelSmoothing, *given: Any) -> Any:
        drawn.append(self.epsilon)
        return real(self, *given)

    monkeypatch.setattr(LabelSmoothing, "__call__", smooth)
    spec = job("resources.workers=1", "accumulation=2")
    images_per_s(spec, spec.data.open(), 0.0)
    assert drawn == [0.1] * 4  # two updates of two parts


def test_a_job_with_loss_scaling_can_be_timed() -> None:
    spec = job("resources.workers=1", "precision=fp16")
    assert images_per_s(spec, spec.data.open(), 0.0) > 0


def test_a_short_job_is_not_tried(cluster: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    told: list[str] = []
    spec = job("resources.workers=1", "compile=auto", "epochs=2", "resources.use_gpu=false")
    decided = decide(spec, ray.put(spec.data.open()), 1, 1, lambda text, lasting: told.append(text))
    assert decided == spec.model_copy(update={"compile": False})
    assert told[0].endswith("s of training a process are too few to try")


def test_what_is_said_by_the_spec_stays() -> None:
    for given in (True, False):
        spec = job(f"compile={str(given).lower()}")
        assert decide(spec, None, 1, 1, lambda text, lasting: pytest.fail(text)) is spec
