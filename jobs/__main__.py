"""A job by itself or under torchrun, without Ray and MLflow: ``python -m jobs``, and what ``-m jobs.train`` runs."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

import torch

from jobs import precision, specfile
from jobs.checkpoint import State
from jobs.data.identity import OtherDataError
from jobs.outcome import keep_model
from jobs.place import Place, process_group
from jobs.report import Files, Print
from jobs.spec import Elastic, JobSpec
from jobs.train import train


def main(arguments: Sequence[str] | None = None) -> None:
    """``python -m jobs.train SPEC [-s NAME=VALUE ...] [-o FOLDER]``, by itself or under torchrun."""
    parser = argparse.ArgumentParser(prog="jobs.train", description="Train a job without Ray and MLflow.")
    parser.add_argument("spec", help="YAML file of the job")
    parser.add_argument(
        "-s", "--set", action="append", default=[], metavar="NAME=VALUE", help="override by dotted name"
    )
    parser.add_argument(
        "-o", "--output", help="folder for the model and the checkpoints, from which the same command resumes"
    )
    given = parser.parse_args(arguments)
    world = int(os.environ.get("WORLD_SIZE", "1"))
    try:
        spec = specfile.read(given.spec, JobSpec, given.set)
        if isinstance(spec.resources.workers, Elastic) and world in spec.sizes:
            spec = spec.trained_by(world)
        else:
            spec = specfile.read(given.spec, JobSpec, [*given.set, f"resources.workers={world}"])
    except specfile.SpecError as error:
        parser.exit(2, f"{error}\n")
    torch.set_num_threads(spec.resources.threads)
    if spec.checkpoint.storage is not None and os.environ.get("RANK", "0") == "0":
        print("checkpoint.storage is of no use here: what is kept is in the folder of -o", file=sys.stderr)
    use_gpu = None if spec.resources.use_gpu == "auto" else spec.resources.use_gpu
    with process_group(use_gpu):
        place = Place.current(use_gpu)
        report = Files(given.output, spec.checkpoint.keep) if given.output else Print()
        start = place.broadcast(report.store.newest() if isinstance(report, Files) and place.rank == 0 else None)
        for name, kept in precision.settled(start).items():
            if getattr(spec, name) not in ("auto", kept):
                cure = "leave it out, or take another folder"
                parser.exit(2, f"{given.output}: {name} is {kept!r} there to the end of the run; {cure}\n")
        if spec.model.pretrained is not None:
            spec = place.broadcast(None if place.rank else _settled(spec, start))
        data = spec.data.open(spec.resizes)
        assets: dict[str, Any] = {"data": data}
        if spec.model.pretrained is not None and start is None:
            from jobs.models.pretrained import materialize

            assets["pretrained"] = materialize(spec.model.pretrained, spec.model)
        if spec.distillation is not None:
            assets["teacher"] = place.broadcast(None if place.rank else spec.distillation.teacher.folder(data))
        try:
            outcome = train(spec, place, report, assets, start)
        except OtherDataError as error:
            parser.exit(2, f"{given.output}: {error} (-o)\n")
        if isinstance(report, Files):
            report.close()
            if place.rank == 0 and outcome.network is not None:
                keep_model(f"{given.output}/model", outcome, data)


def _settled(spec: JobSpec, start: State | None) -> JobSpec:
    """The spec with its pretrained weights in a folder; of a run that is resumed, with the sizes that it began with."""
    from jobs.models.finetune import IMAGES, resolve

    if start is None:
        return resolve(spec)
    return spec.override({f"data.{name}": start.tree["spec"]["data"][name] for name in IMAGES})


if __name__ == "__main__":
    main()
