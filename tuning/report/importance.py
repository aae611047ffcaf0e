"""How much each parameter matters: fANOVA (Hutter et al., ICML 2014) by Optuna, and how far it can be trusted.

A random forest is fitted to the trials; a parameter's importance is the share of the forest's variance that it explains
alone. Departures: parameters enter by their place on their axis (a log-uniform one by its logarithm), so that the
variance is over the distribution that was searched; the forest's fit to trials that it has not seen and resamples of
the trials say how far to trust the shares.
"""

from __future__ import annotations

import importlib.util
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tuning.report.findings import ENOUGH, Findings
from tuning.report.scales import Scale

Array = NDArray[np.float64]

_LEAST = 4
_FAIR = 0.3
_RESAMPLES = 20
_TREES, _TREES_OF_A_RESAMPLE = 64, 16


@dataclass(frozen=True)
class Importance:
    """What matters.

    Attributes:
        shares: name -> share of the variance, in all at most 1, the largest first.
        low, high: name -> the middle 80 % over resamples of the trials.
        fit: share of the variance that the forest explains of trials that it was not fitted to; at or below 0 it
            knows nothing.
        trials: how many.
        of: which values.
        left_out: names that some of these trials did not draw.
    """

    shares: dict[str, float]
    low: dict[str, float]
    high: dict[str, float]
    fit: float
    trials: int
    of: str
    left_out: tuple[str, ...]

    @property
    def sure(self) -> bool:
        """Whether there is something in it."""
        return self.trials >= ENOUGH and self.fit > _FAIR

    @property
    def trust(self) -> str:
        """How sure it is, in words."""
        if self.trials < ENOUGH:
            return f"With {self.trials} trials this means little: chance alone gives such bars."
        fit = f"he forest explains {max(0.0, self.fit):.0%} of the differences between trials that it was not fitted to"
        if not self.sure:
            return f"This means little: t{fit}. More trials are needed, or the parameters hardly matter."
        return f"T{fit}."


def importance(findings: Findings, scales: Mapping[str, Scale]) -> Importance | str:
    """The importance of the parameters for the first objective, or why it is unknown."""
    values, of = findings.comparable()
    trials = [trial for trial in findings.trials if trial.ordinal in values]
    names = [name for name in scales if all(name in trial.params for trial in trials)]
    if importlib.util.find_spec("optuna") is None:
        return "it needs Optuna (pip install 'image-classification-orchestrator[search]')"
    if len(trials) < _LEAST:
        return f"it needs at least {_LEAST} trials that can be compared, and there are {len(trials)}"
    if len(names) < 2:
        return "it needs at least two parameters that all trials drew"
    x = np.array([[scales[name].place(trial.params[name]) for name in names] for trial in trials])
    y = np.array([values[trial.ordinal] for trial in trials])
    if not np.isfinite(x).all():
        return "some parameters have no place on their axes"
    if np.ptp(y) == 0:
        return "all trials have the same value"
    ordered = [scales[name].ordered for name in names]
    shares = _fanova(x, y, ordered, _TREES, 0)
    generator = np.random.default_rng(0)
    resampled = []
    for seed in range(_RESAMPLES):
        rows = generator.integers(len(y), size=len(y))
        if np.ptp(y[rows]) > 0:
            resampled.append(_fanova(x[rows], y[rows], ordered, _TREES_OF_A_RESAMPLE, seed))
    low, high = np.quantile(resampled or [shares], (0.1, 0.9), axis=0)
    order = np.argsort(-shares, kind="stable")
    return Importance(
        {names[at]: float(shares[at]) for at in order},
        {names[at]: float(low[at]) for at in order},
        {names[at]: float(high[at]) for at in order},
        _fit(x, y),
        len(trials),
        of,
        tuple(name for name in scales if name not in names),
    )


def _fanova(x: Array, y: Array, ordered: Sequence[bool], trees: int, seed: int) -> Array:
    """The shares, in the order of the columns; a column that is constant has none."""
    import optuna
    from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    distributions: dict[str, BaseDistribution] = {}
    for column, alike in enumerate(ordered):
        kinds = sorted(set(x[:, column].tolist()))
        distributions[str(column)] = FloatDistribution(0.0, 1.0) if alike else CategoricalDistribution(kinds)
    study = optuna.create_study()
    for row, value in zip(x.tolist(), y.tolist(), strict=True):
        params = {str(column): at for column, at in enumerate(row)}
        study.add_trial(optuna.create_trial(params=params, distributions=distributions, value=value))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=trees, seed=seed)
        try:
            shares = evaluator.evaluate(study)
        except RuntimeError:  # every tree was fitted to trials with one value
            return np.zeros(x.shape[1])
    found = np.array([shares[str(column)] for column in range(x.shape[1])])
    return np.where(np.isfinite(found), found, 0.0)


def _fit(x: Array, y: Array) -> float:
    """The share of the variance that a forest explains of the trials that each of its trees was not fitted to."""
    from sklearn.ensemble import RandomForestRegressor

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the few trials that every tree has seen
        forest = RandomForestRegressor(n_estimators=200, oob_score=True, random_state=0).fit(x, y)
    fit = float(forest.oob_score_)
    return fit if math.isfinite(fit) else 0.0
