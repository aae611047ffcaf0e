"""A run under way: network, optimizer, average, counters; what the loop acts on and a checkpoint holds."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from typing import Any

import torch

from jobs import buffers, divergence, precision, system
from jobs.averages import average_of
from jobs.batch import At
from jobs.checkpoint import State, snapshot
from jobs.data.identity import identity
from jobs.data.sets import Data
from jobs.graphs import compiled
from jobs.models.stored import restore
from jobs.models.sync import synchronise
from jobs.objective import Objective
from jobs.optimizers.clipping import clip
from jobs.optimizers.parameters import resume
from jobs.place import Place
from jobs.randomness import seed_global
from jobs.report import Record
from jobs.sam import ascend
from jobs.spec import JobSpec
from jobs.start import network as start_network
from jobs.steps import Steps


class Run:
    """Everything that changes while a job trains.

    Attributes:
        data: which images it is of (``jobs.data.identity``).
        step: updates done.
        seen: what SAM computes again: the parts of the update under way.
        losses: float64 ``(updates an epoch, terms)`` on the device: this rank's mean loss of each update of the epoch
            under way, the total in column 0 and the other terms of the objective beside it.
        head: names of the tensors that pretrained weights did not bring; empty without such.
        frozen: whether the rest stands still.
        skipped: int64 on the device: updates left out so far because fp16 gradients overflowed.
        records: what was reported so far (rank 0).
        best: highest validation top-1 so far and the epoch (from 1) it was reached in.
        risen_to, stale_epochs: the last top-1 that rose by early stopping's ``min_delta``, and epochs since.
    """

    def __init__(
        self,
        spec: JobSpec,
        data: Data,
        place: Place,
        steps: Steps,
        assets: Mapping[str, Any],
        start: State | None = None,
    ) -> None:
        self.spec, self.place, self.steps, self.data = spec, place, steps, identity(data)
        self.objective = Objective(spec, data, assets, place.device, self._prepare)
        seed_global(spec.seed.init, "init", device=place.device)
        weights = assets["pretrained"] if spec.model.pretrained is not None and start is None else None
        network, self.head, self.started_from = start_network(spec.model, len(data.classes), data.channels, weights)
        self.network = self._prepare(network)
        if spec.model.sync_batchnorm and place.distributed:
            self.network = synchronise(self.network, place.device)
        self.average = average_of(spec, self.network, steps.per_epoch)
        self.optimizer = spec.optimizer.build(self.network, spec.optimizer.rate(spec.batch_size))
        self.scaler = precision.scaler(spec, place.device)
        self.skipped = torch.zeros((), dtype=torch.int64, device=place.device)
        terms = len(self.objective.names)
        self.losses = torch.zeros(steps.per_epoch, terms, dtype=torch.float64, device=place.device)
        self.step = 0
        self.records: list[Record] = []
        self.best: tuple[float, int] = (-1.0, 0)
        self.best_weights: dict[str, torch.Tensor] | None = None
        self.risen_to, self.stale_epochs = -1.0, 0
        self._spent_s, self._began = 0.0, time.monotonic()
        self._shape = (0, 0, 0, 0)
        self.seen: list[tuple[torch.Tensor, torch.Tensor, At]] = []
        self._parts = buffers.Parts(self.network, spec.accumulation)
        self._wrap((start.step if start else 0) // steps.per_epoch)
        if start is not None:
            self.load(start)

    def _wrap(self, epoch: int) -> None:
        """Make ``trained`` of the network for an epoch (from 0) and those after it in which the same weights learn."""
        self.frozen = epoch < self.spec.model.freeze_epochs
        if self.spec.model.freeze_epochs:
            from jobs.models import finetune

            finetune.freeze(self.network, self.head, self.frozen)
        network = compiled(self.network, self.spec, self.place)
        self.trained: Any = self.place.wrap(network)  # DDP learns here which gradients there will be

    def enter(self, epoch: int) -> None:
        """Be ready to train in an epoch (from 0); the body thaws where ``model.freeze_epochs`` have passed."""
        if self.frozen and epoch >= self.spec.model.freeze_epochs:
            self.trained = None  # and with it DDP's hooks on the head
            self._wrap(epoch)
            self.settle(self._shape)
        self.trained.train()
        if self.frozen:
            from jobs.models import finetune

            finetune.hold_statistics(self.network)

    def _prepare(self, network: torch.nn.Module) -> torch.nn.Module:
        """A network on the run's device, in its dtype and layout."""
        network = network.to(self.place.device, precision.dtype(self.spec))
        return network.to(memory_format=torch.channels_last) if self.spec.channels_last else network

    @property
    def evaluated(self) -> torch.nn.Module:
        """The network that is scored and kept: the average where there is one."""
        return self.average.network if self.average and self.average.begun() else self.network

    @property
    def _networks(self) -> list[torch.nn.Module]:
        return [self.network, self.average.network] if self.average else [self.network]

    @property
    def spent_s(self) -> float:
        """Seconds of training so far, over all resumptions."""
        return self._spent_s + time.monotonic() - self._began

    @property
    def lr(self) -> float:
        """Learning rate of the update that comes next."""
        return self.spec.lr_at(min(self.step + 1, self.steps.total), self.steps)

    def autocast(self) -> torch.autocast:
        """The autocast context of a forward pass."""
        return precision.autocast(self.spec, self.place.device)

    def backward(self, x: torch.Tensor, y: torch.Tensor, at: At) -> torch.Tensor:
        """Forward and backward pass of a part; its terms, as shares of the rank's mean. Ranks meet after the last."""
        if self.spec.sam is not None:
            self.seen.append((x, y, at))
        return self._pass(x, y, at)

    def _pass(self, x: torch.Tensor, y: torch.Tensor, at: At) -> torch.Tensor:
        number = at.part % self.spec.accumulation
        last = number == self.spec.accumulation - 1 or not self.place.distributed
        with self._parts.part(number), contextlib.nullcontext() if last else self.trained.no_sync():
            with self.autocast():
                terms = self.objective(self.trained(x), x, y, at) / self.spec.accumulation
            self.scaler.scale(terms[0]).backward()
        return terms.detach()

    def _again(self) -> None:
        """The passes of the update under way once more, with the same draws."""
        for x, y, at in self.seen:
            seed_global(self.spec.seed.data, "model", at.step, at.part, device=self.place.device)
            self._pass(x, y, at)
        self.seen.clear()

    def update(self, lr: float) -> None:
        """One optimizer step with the gradients at hand."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group.get("lr_scale", 1.0)
        if self.spec.sam is not None:
            ascend(self.network, self.spec.sam.rho, self._again)
        if self.spec.optimizer.clips:
            self.scaler.unscale_(self.optimizer)
            clip(self.network, self.spec.optimizer)
        precision.step(self.scaler, self.optimizer, self.skipped)
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        if self.average is not None:
            self.average.update(self.step)

    def settle(self, shape: tuple[int, int, int, int]) -> None:
        """One forward and backward pass that leaves no trace, before the first update, on inputs of that shape.

        DDP lays its gradient buckets out anew after its first backward pass, and where a gradient lies decides in which
        order three or more ranks add it up. With this, a resumed run adds in the order of one that was never stopped.
        """
        self._shape = shape
        if not self.place.distributed:
            return
        seed_global("settle", device=self.place.device)
        x = torch.zeros([shape[0], *shape[2:], shape[1]], dtype=precision.dtype(self.spec), device=self.place.device)
        x = x.permute(0, 3, 1, 2)  # the layout of images as the loader has them, for which graphs are compiled
        x = x if self.spec.channels_last else x.contiguous()
        with buffers.untouched(self.network):
            with self.autocast():
                loss = self.trained(x).float().sum()
            loss.backward()
        self.optimizer.zero_grad(set_to_none=True)

    def facts(self) -> dict[str, str]:
        """What was decided for this run, and where it runs."""
        return {
            **{name: str(getattr(self.spec, name)) for name in ("precision", "channels_last", "compile")},
            "device": system.device(self.place),
            "updates": f"{self.steps.total} ({self.steps.per_epoch} an epoch)",
            **({"pretrained": f"sha256 {self.started_from}"} if self.started_from else {}),
        }

    def judge(self, top1: float, epoch: int) -> None:
        """Take in the validation top-1 of an epoch (from 1), keeping the weights where ``select`` asks for the best."""
        delta = self.spec.early_stopping.min_delta if self.spec.early_stopping else 0.0
        self.stale_epochs += self.spec.evaluation.every_epochs
        if top1 > self.risen_to + delta:
            self.risen_to, self.stale_epochs = top1, 0
        keeps = self.spec.select == "best"
        if top1 > self.best[0] and (not keeps or divergence.finite(self.evaluated)):
            self.best = (top1, epoch)
            if keeps:
                self.best_weights = {name: value.clone() for name, value in self.evaluated.state_dict().items()}

    def finished(self) -> str | None:
        """Why the run is at its end (``epochs``, ``early_stopping``, ``budget``), or None."""
        if self.step >= self.steps.total:
            return "epochs"
        patience = self.spec.early_stopping.patience_epochs if self.spec.early_stopping else None
        if patience is not None and self.stale_epochs >= patience:
            return "early_stopping"
        hours = self.spec.budget.hours
        return "budget" if hours is not None and self.spent_s >= hours * 3600 else None

    def select(self) -> torch.nn.Module:
        """The network with the weights that ``select`` names, ready to be tested and kept."""
        if self.best_weights is not None:
            restore(self.evaluated, self.best_weights)
        return self.evaluated

    def epoch_losses(self) -> torch.Tensor:
        """Mean over all ranks of the terms at each update of the epoch under way: float64 ``(updates done, terms)`` on
        the CPU.

        Raises:
            jobs.divergence.NonFiniteLossError: one of them is not finite; all ranks raise alike.
        """
        done = self.step - (self.step - 1) // self.steps.per_epoch * self.steps.per_epoch if self.step else 0
        losses = self.losses.clone()
        self.place.sum(losses)
        means = (losses[:done] / self.place.world).cpu()
        bad = (~means[:, 0].isfinite()).nonzero()
        if len(bad):
            raise divergence.of_training(self, means[:, 0], int(bad[0]))
        return means

    def state(self) -> State | None:
        """The run as it stands; on rank 0 alone, but all ranks must call.

        Raises:
            jobs.divergence.NonFiniteLossError: there is nothing worth saving.
        """
        self.epoch_losses()
        if not divergence.finite(self.evaluated):
            raise divergence.of_weights(self)
        losses = self.losses.clone()
        self.place.sum(losses)
        statistics = buffers.gather(self._networks, self.place)
        if self.place.rank:
            return None
        tree: dict[str, Any] = {
            "spec": self.spec.model_dump(mode="json"),
            "data": self.data,
            "network": self.network.state_dict(),
            "average": self.average.state() if self.average else None,
            "statistics": statistics,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "skipped": self.skipped,
            "losses": losses,
            "world": self.place.world,
            "records": [[record.name, record.step, record.value, record.time] for record in self.records],
            "best": list(self.best),
            "best_weights": self.best_weights,
            "risen_to": self.risen_to,
            "stale_epochs": self.stale_epochs,
            "spent_s": self.spent_s,
        }
        return State(self.step, snapshot(tree))

    def load(self, state: State) -> None:
        """Become what ``state`` says."""
        tree = state.tree
        self.step = state.step
        restore(self.network, tree["network"])
        if self.average is not None:
            self.average.load(tree["average"])
        buffers.restore(self._networks, self.place, tree.get("statistics"))
        same = tree["spec"]["optimizer"] == self.spec.optimizer.model_dump(mode="json")
        resume(self.optimizer, tree["optimizer"], keep_settings=not same)  # weights of another configuration
        self.scaler.load_state_dict(tree["scaler"])
        self.skipped.copy_(tree["skipped"])
        if self.place.rank == 0:
            self.losses.copy_(tree["losses"])
            if (world := tree.get("world", self.place.world)) != self.place.world:  # sums of as many means
                self.losses *= self.place.world / world
        self.records = [Record(*record) for record in tree["records"]]
        self.best = (float(tree["best"][0]), int(tree["best"][1]))
        if tree["best_weights"] is not None:
            self.best_weights = {name: value.to(self.place.device) for name, value in tree["best_weights"].items()}
        self.risen_to, self.stale_epochs = tree.get("risen_to", self.best[0]), int(tree["stale_epochs"])
        self._spent_s, self._began = float(tree["spent_s"]), time.monotonic()
