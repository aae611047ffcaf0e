"""The key of a teacher's logits: a digest of everything that they are a function of, and of nothing else."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jobs
from jobs.batch import LabelSmoothing
from jobs.data.cache import key
from jobs.data.sets import Arrays, Data

if TYPE_CHECKING:
    import torch

    from jobs.models import LoadedModel
    from jobs.spec import JobSpec


def inputs(spec: JobSpec) -> dict[str, Any]:
    """What a spec says of the tensors that a teacher gets, and of the arithmetic of its logits."""
    tricks = [trick for trick in spec.batch if not isinstance(trick, LabelSmoothing)]
    # A mixing trick without off_epochs does not depend on the length of the run; other tricks may.
    length = spec.epochs if any(getattr(trick, "off_epochs", 1) for trick in tricks) else None
    return {
        "augment": [trick.model_dump(mode="json") for trick in spec.augment],
        "batch": [trick.model_dump(mode="json") for trick in tricks],
        "epochs": length,
        "seed": spec.seed.data,
        "repeats": spec.repeats,
        "batch_size": spec.batch_size,
        "parts": spec.parts,
        "arithmetic": [spec.precision, spec.channels_last, spec.deterministic],
    }


def key_of(spec: JobSpec, data: Data, teacher: LoadedModel, device: torch.device) -> str:
    """The key of the logits of a run's teacher.

    Args:
        spec: the job, its arithmetic resolved.
        data: what it is trained on.
        teacher: as ``jobs.models.load`` gives it.
        device: of the run.
    """
    shown = (
        data.mean,
        data.std,
        data.size,
        data.channels,
        data.balanced_sampling,
        isinstance(data.training(spec.resizes), Arrays),
    )
    network = (teacher.meta["sha256"], json.dumps(teacher.meta["model"], sort_keys=True), teacher.mean, teacher.std)
    return key(json.dumps(inputs(spec), sort_keys=True), data.digest, shown, network, _machine(device), _code())


def _machine(device: torch.device) -> tuple[object, ...]:
    """What the last bit of a logit may depend on."""
    import torch

    if device.type == "cuda":
        return (torch.cuda.get_device_name(device), torch.version.cuda, torch.backends.cudnn.version())
    return (device.type, _processor(), torch.backends.cpu.get_cpu_capability(), torch.get_num_threads())


@functools.cache
def _processor() -> str:
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        return next((line.strip() for line in file if line.startswith("model name")), platform.processor())
    return platform.processor()


@functools.cache
def _code() -> str:
    """Digest of this package's source and of the libraries: the functions that make inputs and logits."""
    digest = hashlib.blake2b(digest_size=16)
    for name in ("torch", "torchvision", "timm", "numpy", "scipy", "pillow"):
        digest.update(f"{name} {version(name)}\n".encode())
    root = Path(jobs.__path__[0])
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root)}\n".encode() + path.read_bytes())
    return digest.hexdigest()
