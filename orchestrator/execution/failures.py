"""What kind of failure an exception is, decided where the exception itself still exists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

Kind = Literal["memory", "nan", "data", "spec", "disk", "lost node", "timeout", "bug"]

_TEXT: dict[Kind, re.Pattern[str]] = {
    "memory": re.compile(r"out ?of ?memory|\boom(kill\w*)?\b|can't allocate memory|_ALLOC_FAILED", re.IGNORECASE),
    "disk": re.compile(r"no space left on device|disk quota exceeded|disk is full", re.IGNORECASE),
    "lost node": re.compile(r"\b(node|actor|worker)( \S+)? (died|was lost|is dead)", re.IGNORECASE),
    "timeout": re.compile(r"timeout|timed out", re.IGNORECASE),
}


def kind_of(error: BaseException) -> Kind:
    """The kind of a failure: that of the exception, or of the exceptions inside it."""
    chain = list(_chain(error, set()))
    known = [kind for each in chain if (kind := _by_type(each))]
    texts = [kind_of_text(str(each)) for each in chain if _foreign(each) and not _inside(each)]
    return next((kind for kind in (*known, *texts) if kind != "bug"), "bug")


def kind_of_text(text: str) -> Kind:
    """The kind of a failure of which only the text is left: of C++ code, or of a process that could not send it."""
    return next((kind for kind, marks in _TEXT.items() if marks.search(text)), "bug")


def _by_type(error: BaseException) -> Kind | None:
    import torch
    from pydantic import ValidationError
    from ray import exceptions as of_ray
    from ray.train.v2._internal import exceptions as of_train

    from jobs.data.decode import DataError
    from jobs.disk import FULL
    from jobs.divergence import NonFiniteLossError
    from jobs.specfile import SpecError
    from jobs.steps import UnfitError

    if isinstance(error, OSError) and error.errno in FULL:
        return "disk"
    kinds: dict[Kind, tuple[type[BaseException], ...]] = {
        "memory": (torch.OutOfMemoryError, MemoryError, of_ray.OutOfMemoryError, of_ray.ObjectStoreFullError),
        "nan": (NonFiniteLossError,),
        "spec": (ValidationError, SpecError, UnfitError),
        "data": (DataError, FileNotFoundError, PermissionError),
        "timeout": (
            TimeoutError,
            of_train.WorkerHealthCheckTimeoutError,
            of_train.WorkerGroupStartupTimeoutError,
            of_train.CollectiveTimeoutError,
        ),
        "lost node": (
            of_ray.NodeDiedError,
            of_ray.ActorDiedError,
            of_ray.ActorUnavailableError,
            of_ray.WorkerCrashedError,
            of_ray.LocalRayletDiedError,
            of_ray.ObjectLostError,
        ),
    }
    return next((kind for kind, types in kinds.items() if isinstance(error, types)), None)


def _foreign(error: BaseException) -> bool:
    """Whether its type says nothing, since it comes from C++ code or from another process."""
    from ray.exceptions import RayError

    return isinstance(error, RayError) or type(error) is RuntimeError


def _chain(error: BaseException, seen: set[int]) -> Iterator[BaseException]:
    """The exception and those inside it, each once."""
    if id(error) in seen:
        return
    seen.add(id(error))
    yield error
    for each in _inside(error):
        yield from _chain(each, seen)


def _inside(error: BaseException) -> list[BaseException]:
    """What an exception was raised from, or wraps: Ray what was raised in another process, and Ray Train that."""
    names = ("cause", "_base_exc", "health_check_failure", "controller_failure", "__cause__")
    ranks = sorted(getattr(error, "worker_failures", {}).items())
    found = [*(getattr(error, name, None) for name in names), *(failure for _, failure in ranks)]
    return [each for each in found if isinstance(each, BaseException)]
