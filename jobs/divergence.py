"""What a run that diverged says: when, at which learning rate, and what helps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch
    from torch import nn

    from jobs.report import Record
    from jobs.spec import JobSpec
    from jobs.steps import Steps


class Run(Protocol):
    """What the error says of a run (``jobs.run.Run``)."""

    step: int
    spec: JobSpec
    steps: Steps
    records: list[Record]


class NonFiniteLossError(RuntimeError):
    """A loss or a weight became NaN or infinite; the message says when, at which learning rate, and what was last
    seen. It would be the same again however often it is tried."""


def of_training(run: Run, losses: torch.Tensor, bad: int) -> NonFiniteLossError:
    """The error of a training loss.

    Args:
        run: the run.
        losses: of the updates of the epoch under way that are done.
        bad: the first of them that is not finite, from 0.
    """
    finite = losses[:bad]
    loss = f"loss {finite[-1]:.4g} one update before" if len(finite) else "no finite loss in this epoch"
    return _error(run, f"loss is {losses[bad]}", run.step - len(losses) + bad + 1, loss)


def of_scores(run: Run, split: str, loss: float) -> NonFiniteLossError:
    """The error of a split's loss, which may be the first that the last update shows in."""
    return _error(run, f"{split}/loss is {loss}", run.step, "no training loss showed it, since the last update did it")


def of_weights(run: Run) -> NonFiniteLossError:
    """The error of weights that are not finite."""
    return _error(run, "weights are not finite", run.step, "no loss showed it, since the last update did it")


def finite(network: nn.Module) -> bool:
    """Whether all parameters are; those of all ranks are equal, and so is the answer. Waits for the device."""
    import torch

    return bool(torch.stack([parameter.detach().isfinite().all() for parameter in network.parameters()]).all())


def _error(run: Run, what: str, update: int, before: str) -> NonFiniteLossError:
    rate = run.spec.lr_at(update, run.steps)
    field = "lr" if run.spec.optimizer.lr is not None else "lr_per_256"
    latest = {record.name: record.value for record in run.records}
    seen = ", ".join(f"{name} {latest[name]:.4g}" for name in ("train/loss", "val/top1") if name in latest)
    return NonFiniteLossError(
        f"{what} at update {update} of {run.steps.total} (lr {rate:.4g}); {before}"
        f"{'; last epoch: ' + seen if seen else ''}. Lower optimizer.{field}, lengthen schedule.warmup_epochs, "
        f"set optimizer.clip_norm, or use a wider precision than {run.spec.precision}"
    )
