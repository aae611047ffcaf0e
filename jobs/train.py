"""The loop: one training run, on one page.

``train`` runs anywhere a ``Place`` can be made: under Ray Train, under torchrun, in a notebook. By itself::

    torchrun --nproc-per-node 2 -m jobs.train jobs/recipes/digits.yaml
"""

from __future__ import annotations

import runpy
import time
from collections.abc import Mapping
from contextlib import closing
from typing import Any

from jobs import divergence, precision, system
from jobs.backward import backward
from jobs.checkpoint import State
from jobs.data.identity import check_same
from jobs.data.loader import Loader
from jobs.data.sets import Data
from jobs.judge import renew, score
from jobs.messages import CONTINUE, END, LEAVE, message, save
from jobs.outcome import Outcome
from jobs.place import Agreement, Place
from jobs.report import STOP, Record, Report
from jobs.run import Run
from jobs.spec import JobSpec
from jobs.watch import Watch


def train(
    spec: JobSpec, place: Place, report: Report, assets: Mapping[str, Any], start: State | None = None
) -> Outcome:
    """Train, evaluate, report, save; every rank calls it alike.

    Args:
        spec: the job; ``resources.workers`` must be the world's size.
        place: of this process among the ranks.
        report: gets all messages; its verdict STOP ends the run early.
        assets: ``data``: the opened data source (``jobs.data.sets.Data``); ``teacher``: the folder of the teacher,
            where the job distils; ``logits``: the ``jobs.logits.store.LogitCache`` that keeps its logits;
            ``pretrained``: the folder of the weights that the network starts from, where it does and there is no
            ``start`` (``jobs.models.finetune.resolve``).
        start: the checkpoint to resume from.

    Raises:
        ValueError: spec, world and data do not fit together.
        jobs.data.identity.OtherDataError: ``start`` is of other images or classes.
        jobs.divergence.NonFiniteLossError: a loss or a weight became NaN or infinite; it would do so again. With
            ``select: best`` an earlier epoch is the result instead, if one was scored.
    """
    if place.world != spec.resources.workers:
        raise ValueError(f"resources.workers is {spec.resources.workers}, but the world has {place.world} processes")
    data: Data = assets["data"]
    facts: dict[str, str] = {}
    if start is not None and (unsure := check_same(start.tree.get("data"), data)):
        facts["resumed"] = unsure
    spec = precision.resolve(spec.model_copy(update=precision.settled(start)), place.device, place.all)
    steps = spec.steps(len(data.train))
    with precision.backends(spec, place.device):
        run = Run(spec, data, place, steps, assets, start)
        with closing(Loader(spec, data, place, steps)) as loader:
            return _train(run, data, loader, report, facts)


def _train(run: Run, data: Data, loader: Loader, report: Report, facts: Mapping[str, str]) -> Outcome:
    spec, place, steps = run.spec, run.place, run.steps
    agreement, diverged = Agreement(place, run.step), None
    if place.rank == 0:
        report.note({**run.facts(), **facts})
    run.settle((steps.part, data.channels, data.size, data.size))
    try:
        ended = _epochs(run, data, loader, agreement, report)
    except divergence.NonFiniteLossError as error:  # on all ranks alike
        if run.best_weights is None:
            agreement.close()
            raise
        ended, diverged = "diverged", f"{error}. The weights of epoch {run.best[1]}, the best before, are kept"
    agreement.close()
    if not ended:
        return Outcome("stopped", run.step, None, None, spec)
    epoch = -(-run.step // steps.per_epoch)
    if not diverged:
        renew(run, loader, epoch - 1)
    network, test = run.select(), score(run, loader, "test", data.test, data.classes)
    values = test.metrics("test") | test.recalls("test", data.classes)
    if place.rank == 0:
        report.record([Record(name, epoch, value) for name, value in values.items()])
    return Outcome(ended, run.step, network, test, spec, diverged)


def _epochs(run: Run, data: Data, loader: Loader, agreement: Agreement, report: Report) -> str | None:
    """Train on until the run is at its end; why it is, or None if it was stopped."""
    spec, place, steps = run.spec, run.place, run.steps
    classes, word = len(data.classes), CONTINUE
    ended: str | None
    while (ended := place.broadcast(run.finished())) is None:
        epoch, first = divmod(run.step, steps.per_epoch)
        run.enter(epoch)
        if first == 0:
            run.losses.zero_()
        watch, began, lr = Watch(run.losses[:, 0], first), time.monotonic(), run.lr
        for step, parts in loader.epoch(epoch, first):
            for part, x, labels in parts:
                run.losses[step] += backward(run, part, x, labels, classes)
            run.update(lr := run.lr)
            if agreement.due(run.step):
                watch.look(step + 1)
                rate = (step + 1 - first) * spec.batch_size / (time.monotonic() - began)
                word = agreement.exchange(run.step, message(run, watch, report, rate))
                if word != CONTINUE:
                    break
            every = spec.checkpoint.every_steps
            if every and run.step % every == 0 and run.step % steps.per_epoch:
                save(run, report)
        losses = run.epoch_losses()
        if word == LEAVE and run.step % steps.per_epoch:
            save(run, report)
            break
        values = dict(zip((f"train/{name}" for name in run.objective.names), losses.mean(0).tolist(), strict=True))
        values |= {"lr": lr, "images_per_s": (len(losses) - first) * spec.batch_size / (time.monotonic() - began)}
        last = word == END or run.step == steps.total
        if last or (epoch + 1) % spec.evaluation.every_epochs == 0:
            renew(run, loader, epoch)
            scores = score(run, loader, "val", data.val, data.classes)
            run.judge(scores.top1, epoch + 1)
            values |= scores.metrics("val") | scores.recalls("val", data.classes)
        if spec.precision == "fp16":
            values["skipped_updates"] = float(run.skipped)
        values |= {"epoch_s": time.monotonic() - began, **system.sample(place)}
        fresh = [Record(name, epoch + 1, value) for name, value in values.items()] if place.rank == 0 else []
        run.records += fresh
        ended = "budget" if word == END else place.broadcast(run.finished())
        regular = (epoch + 1) % spec.checkpoint.every_epochs == 0
        if ended or word == LEAVE or regular:
            save(run, report)
        stop = place.rank == 0 and report.record(fresh) is STOP
        if place.broadcast(stop) and not ended:
            word = LEAVE
            if not regular:
                save(run, report)
        if ended or word != CONTINUE:
            break
    return ended


if __name__ == "__main__":
    runpy.run_module("jobs", run_name="__main__")
