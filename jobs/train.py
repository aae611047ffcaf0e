"""The loop: one training run, on one page.

``train`` runs anywhere a ``Place`` can be made: under Ray Train, under torchrun, in a notebook. By itself::

    torchrun --nproc-per-node 2 -m jobs.train jobs/recipes/digits.yaml
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from jobs import precision, specfile, system
from jobs.batch import At
from jobs.checkpoint import State
from jobs.data.loader import Loader
from jobs.data.sets import Data, Split
from jobs.evaluate import Scores, evaluate
from jobs.models import save
from jobs.place import Agreement, Place, process_group
from jobs.randomness import generator, seed_global
from jobs.report import STOP, Files, Print, Progress, Record, Report
from jobs.run import Run
from jobs.spec import JobSpec
from jobs.steps import Steps
from jobs.watch import Watch

GO_ON, END, LEAVE, BROKEN = 0, 1, 2, 3
"""What ranks tell each other: go on; end cleanly with what there is; stop here; a loss is not finite."""
RECALL_CLASSES = 100
"""Largest number of classes whose recall is a series of its own in every epoch."""


@dataclass(frozen=True)
class Outcome:
    """What a run came to.

    Attributes:
        ended_by: ``epochs``, ``early_stopping``, ``budget``, or ``stopped`` (it was told to, and can be resumed).
        step: updates done.
        network: the selected weights; None where the run was stopped.
        test: scores on the test split; None where the run was stopped.
        spec: the spec with every ``auto`` of the arithmetic resolved.
    """

    ended_by: str
    step: int
    network: torch.nn.Module | None
    test: Scores | None
    spec: JobSpec


def train(
    spec: JobSpec, place: Place, report: Report, assets: Mapping[str, Any], start: State | None = None
) -> Outcome:
    """Train, evaluate, report, save; every rank calls it alike.

    Args:
        spec: the job; ``resources.workers`` must be the world's size.
        place: where this process stands.
        report: who is told; answers STOP when the run shall leave off.
        assets: ``data``: the opened data source (``jobs.data.sets.Data``).
        start: the checkpoint to go on from.

    Raises:
        ValueError: spec, world and data do not fit together.
        jobs.run.NonFiniteLossError: the loss became NaN or infinite.
    """
    if place.world != spec.resources.workers:
        raise ValueError(f"resources.workers is {spec.resources.workers}, but the world has {place.world} processes")
    data: Data = assets["data"]
    if start is not None:  # what was chosen for the first part of the run holds for the rest of it
        spec = spec.model_copy(update={name: start.tree["spec"][name] for name in ("precision", "channels_last")})
    spec = precision.resolve(spec, place.device)
    steps = Steps.of(spec, len(data.train))
    with precision.backends(spec, place.device):
        run = Run(spec, data, place, steps)
        if start is not None:
            run.load(start)
        return _train(run, data, report)


def _train(run: Run, data: Data, report: Report) -> Outcome:
    spec, place, steps = run.spec, run.place, run.steps
    loader, agreement = Loader(spec, data, place, steps), Agreement(place)
    classes, word = len(data.classes), GO_ON

    def score(split: Split) -> Scores:
        return evaluate(run.evaluated, loader.scoring(split), len(split), classes, place, run.autocast)

    if place.rank == 0:
        report(facts=_facts(run))
    run.settle((steps.part, data.channels, data.size, data.size))
    while (ended := place.broadcast(run.finished())) is None:
        epoch, first = divmod(run.step, steps.per_epoch)
        run.trained.train()
        if first == 0:
            run.losses.zero_()
        watch, began, lr = Watch(run.losses, first), time.monotonic(), run.lr
        for step, parts in loader.epoch(epoch, first):
            for part, x, labels in parts:
                at = At(epoch, run.step, part, spec.epochs, steps.total)
                seed_global(spec.seed.data, "model", run.step, part, device=place.device)
                y = one_hot(labels, classes, x.dtype)
                for trick in spec.batch:
                    x, y = trick(x, y, generator(spec.seed.data, trick.kind, run.step, part), at)
                with run.accumulate(part):
                    with run.autocast():
                        loss = spec.loss(run.trained(x), y) / spec.accumulation
                    run.scaler.scale(loss).backward()
                run.losses[step] += loss.detach()
            run.update(lr := run.lr)
            if agreement.due(run.step):
                watch.look(step + 1)
                rate = (step + 1 - first) * spec.batch_size / (time.monotonic() - began)
                word = agreement.exchange(run.step, _word(run, watch, report, rate))
                if word != GO_ON:
                    break
            every = spec.checkpoint.every_steps
            if every and run.step % every == 0 and run.step % steps.per_epoch:
                _save(run, report)
        losses = run.epoch_losses()
        if word == LEAVE and run.step % steps.per_epoch:
            _save(run, report)
            break
        values = {"train/loss": float(losses.mean()), "lr": lr}
        values["images_per_s"] = (len(losses) - first) * spec.batch_size / (time.monotonic() - began)
        last = word == END or run.step == steps.total
        if last or (epoch + 1) % spec.evaluation.every_epochs == 0:
            scores = score(data.val)
            run.judge(scores.top1, epoch + 1)
            values |= scores.metrics("val") | _recalls("val", scores, data)
        if spec.precision == "fp16":
            values["skipped_updates"] = float(run.skipped)
        values |= {"epoch_s": time.monotonic() - began, **system.sample(place)}
        fresh = [Record(name, epoch + 1, value) for name, value in values.items()] if place.rank == 0 else []
        run.records += fresh
        ended = "budget" if word == END else place.broadcast(run.finished())
        regular = (epoch + 1) % spec.checkpoint.every_epochs == 0
        state = run.state() if ended or word == LEAVE or regular else None
        stop = place.rank == 0 and report(fresh, state) is STOP
        if place.broadcast(stop) and not ended:
            word = LEAVE
            if not regular:
                _save(run, report)
        if ended or word != GO_ON:
            break
    agreement.close()
    if not ended:
        return Outcome("stopped", run.step, None, None, spec)
    network, test = run.select(), score(data.test)
    epoch = -(-run.step // steps.per_epoch)
    final = [
        Record(name, epoch, value) for name, value in (test.metrics("test") | _recalls("test", test, data)).items()
    ]
    if place.rank == 0:
        report(final)
    return Outcome(str(ended), run.step, network, test, spec)


def one_hot(labels: torch.Tensor, classes: int, dtype: torch.dtype) -> torch.Tensor:
    """Soft targets ``(N, classes)`` of int64 labels ``(N,)``; unlike torch's own, it never waits for the device."""
    return torch.zeros(len(labels), classes, dtype=dtype, device=labels.device).scatter_(1, labels[:, None], 1)


def _word(run: Run, watch: Watch, report: Report, rate: float) -> int:
    """What this rank has to say to the others."""
    if not watch.finite:
        return BROKEN
    if run.place.rank:
        return GO_ON
    epoch = min(run.step // run.steps.per_epoch, run.spec.epochs - 1)
    progress = Progress(run.step, run.steps.total, epoch + 1, run.spec.epochs, watch.latest, rate, run.spec.batch_size)
    if report(progress=progress) is STOP:
        return LEAVE
    return END if run.finished() == "budget" else GO_ON


def _save(run: Run, report: Report) -> None:
    state = run.state()
    if state is not None:
        report(checkpoint=state)


def _recalls(split: str, scores: Scores, data: Data) -> dict[str, float]:
    if len(data.classes) > RECALL_CLASSES:
        return {}
    return {f"{split}/recall/{name}": float(r) for name, r in zip(data.classes, scores.recall, strict=True)}


def _facts(run: Run) -> dict[str, str]:
    spec = run.spec
    return {
        "precision": spec.precision,
        "channels_last": str(spec.channels_last),
        "device": system.device(run.place),
        "updates": f"{run.steps.total} ({run.steps.per_epoch} an epoch)",
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """``python -m jobs.train SPEC [-s NAME=VALUE ...] [-o FOLDER]``, by itself or under torchrun, without Ray
    and MLflow."""
    parser = argparse.ArgumentParser(prog="jobs.train", description="Train a job without Ray and MLflow.")
    parser.add_argument("spec", help="YAML file of the job")
    parser.add_argument(
        "-s", "--set", action="append", default=[], metavar="NAME=VALUE", help="override by dotted name"
    )
    parser.add_argument(
        "-o", "--output", help="folder for checkpoints, to go on from when started again, and the model"
    )
    given = parser.parse_args(arguments)
    world = int(os.environ.get("WORLD_SIZE", "1"))
    try:
        spec = specfile.read(given.spec, JobSpec, [*given.set, f"resources.workers={world}"])
    except specfile.SpecError as error:
        parser.exit(2, f"{error}\n")
    use_gpu = None if spec.resources.use_gpu == "auto" else spec.resources.use_gpu
    with process_group(use_gpu):
        place = Place.current(use_gpu)
        report = Files(given.output, spec.checkpoint.keep) if given.output else Print()
        start = place.broadcast(report.store.newest() if isinstance(report, Files) and place.rank == 0 else None)
        data = spec.data.open()
        outcome = train(spec, place, report, {"data": data}, start)
        if isinstance(report, Files):
            report.close()
            if place.rank == 0 and outcome.network is not None:
                keep_model(f"{given.output}/model", outcome, data)


def keep_model(path: str, outcome: Outcome, data: Data) -> None:
    """Store the network of ``outcome`` with its spec, class names and preprocessing; ``jobs.models.load`` reads it."""
    assert outcome.network is not None
    assert outcome.test is not None
    preprocessing = {"size": data.size, "channels": data.channels, "mean": data.mean, "std": data.std}
    model = outcome.spec.model.model_dump(mode="json")
    save(path, outcome.network, model, data.classes, preprocessing, {"metrics": outcome.test.metrics("test")})


if __name__ == "__main__":
    main()
