"""Ray Tune, directed by a driver: thin adapters for its searcher, scheduler and callback, and the call itself."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from orchestrator.execution.failures import kind_of, kind_of_text
from orchestrator.execution.interrupts import current
from orchestrator.home import home
from tuning.run.driver import LATER, Driver
from tuning.run.line import decode
from tuning.run.trial import Shared, TrialActor

if TYPE_CHECKING:
    from ray.tune.execution.tune_controller import TuneController
    from ray.tune.experiment import Trial

POLL_S = 0.25
Result = dict[str, Any]


class _Directed:
    """Has a driver, which Tune must not put into the files that it keeps of an experiment."""

    driver: Driver

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "driver"}


class Ask(_Directed, Searcher):
    """Tune's searcher."""

    def __init__(self, driver: Driver) -> None:
        super().__init__(metric="epoch", mode="max")
        self.driver = driver

    def suggest(self, trial_id: str) -> Any:  # Ray types it as a mapping, but wants text where none is left
        """The next configuration."""
        config = self.driver.next()
        if config == LATER:
            return None
        return Searcher.FINISHED if config is None else config

    def on_trial_complete(self, trial_id: str, result: Result | None = None, error: bool = False) -> None:
        """The callback does it."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the search's journal is all there is."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing."""


class Judge(_Directed, FIFOScheduler):
    """Tune's scheduler."""

    def __init__(self, driver: Driver) -> None:
        super().__init__()
        self.driver = driver

    def on_trial_result(self, tune_controller: TuneController, trial: Trial, result: Result) -> str:
        """Take in an epoch; after one that is new, failures count anew (``resources.max_failures``)."""
        ordinal, (epoch, values) = trial.config["ordinal"], decode(result)
        if epoch not in self.driver.history.trial(ordinal).results:  # a process that resumes reports the earlier ones
            trial.run_metadata.num_failures = 0
        stop = self.driver.result(ordinal, epoch, values)
        return str(TrialScheduler.STOP if stop else TrialScheduler.CONTINUE)

    def on_trial_complete(self, tune_controller: TuneController, trial: Trial, result: Result) -> None:
        """Take in a trial's answer; one that was stopped has none."""
        if "answer" in result:
            self.driver.answered(trial.config["ordinal"], result["answer"])


class Listen(_Directed, tune.Callback):
    """Tune's callback."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A trial failed for good."""
        error = trial.get_pickled_error()
        text = str(error or trial.get_error() or "").strip() or "unknown"
        kind = kind_of(error) if error is not None else kind_of_text(text)
        self.driver.failed(trial.config["ordinal"], text.splitlines()[-1], kind)


def run(driver: Driver, shared: Shared, concurrent: int, storage: str, name: str) -> None:
    """Run trials until the driver has none left.

    Args:
        driver: of the search.
        shared: what all trials get.
        concurrent: trials at a time.
        storage: folder for what Tune itself writes.
        name: of Tune's experiment; unlike any before it, since Tune continues one that it knows.
    """
    for logger in ("ray.tune", "ray.air"):
        logging.getLogger(logger).setLevel(logging.CRITICAL)
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    os.environ.setdefault("TUNE_DISABLE_STRICT_METRIC_CHECKING", "1")
    need = driver.base.resources
    nested = need.most > 1
    # A nested trial's own actor takes a sliver of the head node, so that it never waits for a CPU its workers hold.
    resources: dict[str, float] = {"node:__internal_head__": 0.0001}
    if not nested:
        resources = {"CPU": need.cpus_per_worker} | ({"GPU": shared.memory_share} if need.use_gpu else {})
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(TrialActor, shared=shared), resources),
        tune_config=tune.TuneConfig(
            search_alg=Ask(driver),
            scheduler=Judge(driver),
            num_samples=-1,
            max_concurrent_trials=concurrent,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name=name,
            storage_path=storage,
            callbacks=[Listen(driver)],
            failure_config=tune.FailureConfig(max_failures=need.max_failures),
            verbose=0,
        ),
    )
    tuner.fit()


def watched(
    driver: Driver,
    shared: Shared,
    concurrent: int,
    show: Callable[[Driver], None],
    tell: Callable[[str, bool], None],
) -> bool:
    """:func:`run` in a thread of its own, while this one shows progress and looks for signals.

    Args:
        driver, shared, concurrent: see :func:`run`.
        show: called several times a second.
        tell: called with what is worth keeping.

    Returns:
        Whether it was interrupted.
    """
    errors: list[BaseException] = []

    def work() -> None:
        try:
            run(driver, shared, concurrent, str(home() / "ray"), f"{driver.spec.name}-{time.time_ns():x}")
        except BaseException as error:
            errors.append(error)

    thread, signals, warned = threading.Thread(target=work, daemon=True), current(), 0
    thread.start()
    while thread.is_alive() and not signals.twice:
        thread.join(POLL_S)
        if signals.came:
            driver.over("interrupted")
        elif driver.spec.budget.hours is not None and driver.lock.acquire(blocking=False):
            try:  # the lock is held while a teacher trains
                driver.check_limits()  # an epoch may take longer than the hours that are left
            finally:
                driver.lock.release()
        show(driver)
        for trial, text in driver.recorders.warnings(warned):
            warned += 1
            tell(f"{trial}: {text}", True)
    if errors and not (signals.came and isinstance(errors[0], KeyboardInterrupt)):  # of a teacher's run
        raise errors[0]
    return signals.came
