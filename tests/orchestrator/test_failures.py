"""Failures are told apart by the exception, also where Ray has wrapped it; by text only where there is nothing else."""

from __future__ import annotations

import pytest
import ray
import torch
from pydantic import TypeAdapter, ValidationError
from ray import cloudpickle
from ray.exceptions import ActorDiedError, NodeDiedError, OutOfMemoryError, RayTaskError
from ray.train.v2._internal.exceptions import UserExceptionWithTraceback, WorkerHealthCheckFailedError
from ray.train.v2.api.exceptions import ControllerError, WorkerGroupError

from jobs.data.decode import DataError, UnreadableError
from jobs.divergence import NonFiniteLossError
from jobs.steps import UnfitError
from orchestrator.execution.answer import Answer
from orchestrator.execution.failures import Kind, kind_of, kind_of_text


def invalid() -> ValidationError:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(int).validate_python("node")
    return caught.value


ERRORS: list[tuple[BaseException, Kind]] = [
    (DataError("mushroom/12.jpg can no longer be read; the data changed while it was in use"), "data"),
    (UnreadableError("zero bytes"), "data"),
    (DataError("the file /data/oompah/1.jpg cannot be read"), "data"),
    (FileNotFoundError(2, "No such file or directory", "/node/1.jpg"), "data"),
    (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB"), "memory"),
    (MemoryError(), "memory"),
    (OutOfMemoryError("Task was killed due to the node running low on memory"), "memory"),
    (RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"), "memory"),
    (NonFiniteLossError("loss is nan at update 3"), "nan"),
    (invalid(), "spec"),
    (UnfitError("batch_size 512 is more than the 43 images of the training split"), "spec"),
    (NodeDiedError("gone"), "lost node"),
    (ActorDiedError(), "lost node"),
    (TimeoutError("the cluster had no room for 4 workers in 30 minutes"), "timeout"),
    (KeyError("node"), "bug"),
    (ValueError("a nodel is no model"), "bug"),
    (RuntimeError("mat1 and mat2 shapes cannot be multiplied on this node"), "bug"),
]


@pytest.mark.parametrize(("error", "kind"), ERRORS)
def test_the_exception_says_it_wherever_it_was_raised(error: Exception, kind: Kind) -> None:
    assert kind_of(error) == kind
    wrapped = [
        WorkerGroupError("rank 1", {0: RuntimeError("gloo: connection closed by peer"), 1: error}),
        WorkerGroupError("rank 0", {0: UserExceptionWithTraceback(error, "Traceback ... node")}),
        WorkerGroupError("rank 0", {0: WorkerHealthCheckFailedError("node", error)}),
        ControllerError(error),
    ]
    if not isinstance(error, ray.exceptions.RayError):
        wrapped.append(RayTaskError("step", "Traceback ... node", error).as_instanceof_cause())
    for each in wrapped:
        assert kind_of(each) == kind, each
        assert kind_of(cloudpickle.loads(cloudpickle.dumps(each))) == kind, each


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("CUDA OOM", "memory"),
        ("OOM: killed", "memory"),
        ("Task was killed since its machine ran low on memory (OOM)", "memory"),
        ("container exited: OOMKilled", "memory"),
        ("the actor died unexpectedly before finishing this task", "lost node"),
        ("The node 10.0.0.3 died", "lost node"),
        ("bedroom/1.jpg", "bug"),
        ("unexpected keyword node", "bug"),
    ],
)
def test_text_is_the_last_resort(text: str, kind: Kind) -> None:
    assert kind_of_text(text) == kind


def test_what_an_exception_was_raised_from_counts_too() -> None:
    with pytest.raises(ValueError, match="no") as caught:
        raise ValueError("no") from NonFiniteLossError("loss is inf")
    assert kind_of(caught.value) == "nan"


def test_an_answer_of_an_exception_has_its_kind() -> None:
    answer = Answer.of(NonFiniteLossError("loss is nan"))
    assert (answer.status, answer.cause, answer.kind) == ("FAILED", "NonFiniteLossError: loss is nan", "nan")
    assert Answer("stopped").status == "KILLED" and Answer("epochs").status == "FINISHED"
