"""How a run is scored: its evaluated network on a split, with fresh statistics where the weights are a mean."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch

from jobs import divergence
from jobs.data.loader import Loader
from jobs.data.sets import Split
from jobs.evaluate import Scores, evaluate
from jobs.randomness import seed_global
from jobs.run import Run
from jobs.swa import StochasticAverage


def score(run: Run, loader: Loader, name: str, split: Split, classes: Sequence[str]) -> Scores:
    """The exact scores of a run's evaluated network on a split.

    Raises:
        jobs.divergence.NonFiniteLossError: the loss is not finite; ``name`` is that of the split.
    """
    batches, flip = loader.scoring(split), run.spec.evaluation.flip
    scores = evaluate(run.evaluated, batches, len(split), len(classes), run.place, run.autocast, flip)
    if not math.isfinite(scores.loss):
        raise divergence.of_scores(run, name, scores.loss)
    return scores


def renew(run: Run, loader: Loader, epoch: int) -> None:
    """Compute BatchNorm's statistics for a mean of weights, on the training split as the ``epoch`` saw it."""
    if isinstance(run.average, StochasticAverage):
        run.average.renew(_inputs(run, loader, epoch), run.autocast)


def _inputs(run: Run, loader: Loader, epoch: int) -> Iterator[torch.Tensor]:
    """This rank's inputs of an epoch; dropout and stochastic depth of the pass draw by the place of each."""
    for step, parts in loader.epoch(epoch, 0):
        for part, x, _ in parts:
            seed_global(run.spec.seed.data, "renew", epoch, step, part, device=run.place.device)
            yield x
