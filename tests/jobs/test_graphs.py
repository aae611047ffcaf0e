"""Compiled jobs, with the real compiler: something is compiled, under DDP too, and what came before changes no bit."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters

from jobs.place import Place
from jobs.report import Report
from jobs.spec import JobSpec
from jobs.train import train
from tests import world
from tests.jobs.digits_job import job

COMMON: dict[str, Any] = {"compile": True, "epochs": 1, "schedule__warmup_epochs": 0}


def trained(specs: list[str]) -> list[tuple[str, int]]:
    """The SHA-256 of each job's weights, one after the other in this process, and the graphs made for it."""
    found = []
    torch.compiler.reset()
    for text in specs:
        spec = JobSpec.model_validate_json(text)
        before = counters["stats"]["unique_graphs"]
        outcome = train(spec, Place.current(False), Report(), {"data": spec.data.open()})
        digest = hashlib.sha256()
        for value in outcome.network.state_dict().values():
            digest.update(value.numpy().tobytes())
        found.append((digest.hexdigest(), counters["stats"]["unique_graphs"] - before))
    torch.compiler.reset()
    return found


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_job_compiles_the_same_whatever_was_compiled_before(workers: int) -> None:
    first = job(resources__workers=workers, **COMMON)
    jobs = {
        "first": first,
        "milder": first.override({"optimizer.lr": 0.01, "batch.label_smoothing.epsilon": 0.0}),
        "again": first,
        "other batches": first.override({"batch_size": 32}),
        "third": first,
    }
    ranks = world.run(workers, trained, [each.model_dump_json() for each in jobs.values()])
    for rank in ranks:
        made = dict(zip(jobs, rank, strict=True))
        assert made["first"][1] == 1, "for the layout and shape of images alone"
        assert made["milder"][1] == made["again"][1] == 0
        assert made["other batches"][1] == 1
        assert len({made[name][0] for name in ("first", "again", "third")}) == 1
        assert len({digest for digest, _ in rank}) == 3
