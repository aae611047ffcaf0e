"""One preparation of a job: what a dry run shows is what a run uses."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from jobs.data.sets import Arrays, Data
from jobs.paths import absolute
from jobs.spec import JobSpec
from jobs.steps import Steps
from jobs.urls import redact
from orchestrator.execution import capacity, nodes, pretrained, teacher
from orchestrator.execution.capacity import Cluster, Fit
from orchestrator.home import default_uri, run_folder
from orchestrator.runs import storage
from orchestrator.tracking import deleted
from orchestrator.tracking.mlflow import Shipper
from orchestrator.tracking.uri import check_folder, check_uri

if TYPE_CHECKING:
    from jobs.models.size import Size

_BYTES = {"fp64": 8, "fp32": 4, "bf16": 2, "fp16": 2}
PROCESS_BYTES = 700 * 2**20
"""Resident memory of a worker before it holds anything: Python, torch, Ray."""


@dataclass(frozen=True)
class Needs:
    """What a job takes.

    Attributes:
        steps: its updates.
        size: its network.
        held: bytes of images in memory, once a node.
        worker: bytes of a worker: weights, optimizer, activations, and on a CPU the process itself.
        checkpoint: bytes of one checkpoint.
        cuda: whether these are of a GPU of this machine.
    """

    steps: Steps
    size: Size
    held: int
    worker: int
    checkpoint: int
    cuda: bool

    @classmethod
    def of(cls, spec: JobSpec, data: Data) -> Needs:
        """Estimate it for a spec with ``use_gpu`` decided.

        Raises:
            ValueError: the data or the network do not fit the spec.
        """
        import torch

        from jobs.models.meta import on_meta
        from jobs.models.size import check_one_image, measure
        from jobs.optimizers.depth import depths
        from jobs.precision import resolve

        cuda = torch.cuda.is_available() and spec.resources.use_gpu is True
        spec = resolve(spec, torch.device("cuda" if cuda else "cpu"))
        steps = spec.steps(len(data.train))
        width = _BYTES[spec.precision]
        if steps.part == 1:
            check_one_image(spec, data)
        size = measure(spec.model, len(data.classes), data.channels, data.size, steps.part, width)
        if data.test_size != data.size:
            measure(spec.model, len(data.classes), data.channels, data.test_size, 2, width)
        if spec.optimizer.layer_decay is not None:
            depths(on_meta(spec.model, len(data.classes), data.channels))
        alike = spec.optimizer.model_copy(update={"layer_decay": None})
        built = alike.build(torch.nn.Conv2d(1, 1, 1), spec.optimizer.rate(spec.batch_size))
        moments = 2 if isinstance(built.defaults.get("betas"), tuple) else 1
        one = size.parameters * (8 if spec.precision == "fp64" else 4)
        averaged = spec.ema is not None or spec.swa is not None
        states = one * (2 + moments + averaged + (spec.sam is not None))
        return cls(
            steps,
            size,
            sum(split.images.nbytes for split in (data.train, data.val, data.test) if isinstance(split, Arrays)),
            states + size.activation_bytes + (0 if cuda else PROCESS_BYTES),
            one * (1 + moments + averaged + (spec.select == "best")),
            cuda,
        )


@dataclass(frozen=True)
class Prepared:
    """A job that was checked, with all that is known of it before any worker starts.

    Attributes:
        spec: as it is kept with the run: absolute paths, images as pretrained weights want them.
        ready: as workers train it: pretrained weights are a folder, ``use_gpu`` is decided. A teacher that has to be
            trained first and ``compile: auto`` are left to the run.
        data: its data, opened.
        needs: what it takes.
        cluster: where it is to run.
        fit: whether the cluster can hold it.
        taught: words about the teacher; empty without one.
        deleted: what of the tracking store is deleted, with the cure; empty where nothing is.
    """

    spec: JobSpec
    ready: JobSpec
    data: Data
    needs: Needs
    cluster: Cluster
    fit: Fit
    taught: str = ""
    deleted: str = ""

    def with_data(self, data: Data) -> Self:
        """The same with another copy of the data."""
        return replace(self, data=data)

    def fetch(self) -> None:
        """Bring here, where it can be watched, what the workers of this machine need of streamed images.

        Raises:
            ValueError: it cannot be had.
        """
        if not self.cluster.live:
            self.data.here(self.spec.resizes)

    def check_fit(self) -> None:
        """Refuse a job that the cluster can never hold.

        Raises:
            ValueError: it cannot; the arithmetic and the cure are in the message.
        """
        if self.fit.problem is not None:
            raise ValueError(self.fit.problem)


def prepare(
    spec: JobSpec, cluster: Cluster, resume: str | None = None, varied: bool = False, trains: bool = False
) -> Prepared:
    """Check a job, open its data and find out what it takes; nothing is started.

    Args:
        spec: the job.
        cluster: where it is to run.
        resume: the run that it resumes; its weights need not exist any more.
        varied: whether trials change the job, so that images are kept that it does not read itself.
        trains: whether it is trained next, see :meth:`Prepared.fetch`: what that would make in a second pass over the
            images is made in the first one.

    Raises:
        ValueError: the data, the weights, the network, the teacher or the tracking server do not fit the spec.
    """
    uri = check_uri(spec.tracking.uri or redact(default_uri()))
    if resume is None:
        check_folder(uri)
    spec = absolute(spec)
    ready = pretrained.resolve(spec, resume)
    spec = spec.model_copy(update={"data": ready.data})
    if cluster.live:
        nodes.check_shared(spec.checkpoint.storage)
    else:
        storage.check(spec.checkpoint.storage)
    data = spec.data.open(spec.resizes if trains and not cluster.live else None)
    data = data if varied else data.needed(spec.resizes)
    fit = capacity.fit(ready, cluster)
    ready = ready.model_copy(update={"resources": ready.resources.model_copy(update={"use_gpu": fit.use_gpu})})
    taught = teacher.told(spec.distillation, data) if spec.distillation is not None else ""
    known, run_id = ("", "") if resume is None else Shipper(run_folder(resume)).target
    gone = deleted.before(known or uri, spec.tracking.experiment, run_id)
    return Prepared(spec, ready, data, Needs.of(ready, data), cluster, fit, taught, gone)
