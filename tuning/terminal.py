"""A search on the terminal, from its start to the commands that follow it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import typer
from rich.console import Group
from rich.live import Live
from rich.text import Text

from orchestrator.cli.console import FAILED, echo, leave, out, say, warn
from orchestrator.execution.interrupts import orderly
from orchestrator.runs.standing import Standing
from tuning.spec.search import SearchSpec

if TYPE_CHECKING:
    from tuning.run.driver import Driver
    from tuning.run.history import History
    from tuning.run.launch import Outcome
    from tuning.run.results import Trial

_SHOWN = 10
"""Rows of the table."""


@orderly()
def drive(spec: SearchSpec | None, name: str | None, again: bool, verbose: bool, as_named: bool = False) -> None:
    """Run a search, or resume one, with a table of its trials; exits 1 without a result or if it gave up, 130 if
    interrupted.

    Args:
        spec: the search; None resumes the one called ``name``.
        name: of the search to resume.
        again: run its failed trials again.
        verbose: show Ray's own messages.
        as_named: see :func:`tuning.run.launch.search`.
    """
    from tuning.report.board import board
    from tuning.run.history import History
    from tuning.run.launch import search as run
    from tuning.run.named import find
    from tuning.studies import final

    doing = Text("")
    shown: set[tuple[int, int]] = set()
    ended: set[int] = set()
    standings: list[Standing] = []

    def tell(text: str, lasting: bool) -> None:
        if lasting or not out.is_terminal:
            echo(text)
        doing.plain = "" if lasting else text

    def show(driver: Driver) -> None:
        if out.is_terminal:
            last = Text("\n".join(f"{label}: {text}" for label, text in final.lines(driver.history).items()))
            live.update(Group(board(driver.spec, driver.trials, driver.spec.name, True, _SHOWN), last, doing))
            return
        for trial in (*driver.trials, *driver.history.last.values()):
            for epoch, values in sorted(trial.results.items()):
                if (trial.ordinal, epoch) not in shown:
                    shown.add((trial.ordinal, epoch))
                    value = values.get(driver.goal.metric, float("nan"))
                    place = f"{_called(trial)}  epoch {epoch:>3}/{driver.finals.job(trial).epochs}"
                    echo(f"{place}  {driver.goal.metric} {value:.4f}")
            if trial.status != "RUNNING" and trial.ordinal not in ended:
                ended.add(trial.ordinal)
                why = trial.cause or (f"stopped by {trial.stopped_by}" if trial.stopped_by else "finished")
                echo(f"{_called(trial)}  {trial.status}: {why}")
        standings[:] = [*standings[-1:], standing(driver)]
        if standings[0] != standings[-1]:
            standings[-1].publish()

    live = Live(console=out, transient=True, refresh_per_second=4, get_renderable=None)
    try:
        if out.is_terminal:
            live.start()
        outcome = run(spec, name, again, show, tell, verbose, as_named)
    finally:
        live.stop()
    history = History.look(find(outcome.name))
    _conclude(outcome, history)
    kept = "" if history.over else "no finished trial is repeated"
    for last in standings[-1:]:
        replace(last, status=outcome.status, cause=last.cause or outcome.why, kept=kept).publish()
    runs = (*outcome.trials, *outcome.last.values())
    retried = [trial for trial in runs if trial.status == "FAILED" and trial.retried]
    if retried:
        first = "free some space, then: " if any(trial.kind == "disk" for trial in retried) else ""
        say("retry", f"{first}orchestrator search retry {outcome.name}")
    if outcome.status == "KILLED":
        leave()
    if not outcome.ranked:
        warn("no trial came to a result")
    if not outcome.ranked or outcome.status == "FAILED":
        raise typer.Exit(FAILED)


def _conclude(outcome: Outcome, history: History) -> None:
    """Print what was found, where it is, and what may follow."""
    from tuning.report.board import board, verdict_board
    from tuning.report.links import links
    from tuning.studies import final

    assert history.spec is not None
    title = f"{outcome.name}: {outcome.status} ({outcome.why})"
    if history.spec.arms is not None:
        out.print(verdict_board(history.spec, outcome.trials, title, history.over))
    else:
        out.print(board(history.spec, outcome.trials, title, False, _SHOWN))
    for label, line in final.lines(history).items():
        say(label, line)
    if outcome.behind:
        say("tracking", f"{outcome.behind} events are not in MLflow yet; ship them with: orchestrator sync")
    for label, link in links(outcome, history.spec).items():
        say(label, link)
    if outcome.report:
        say("report", outcome.report)
        if history.spec.arms is not None:
            say("verdict", outcome.report.parent / "verdict.md")
    if not history.over:
        say("resume", f"orchestrator search resume {outcome.name}")


def _called(trial: Trial) -> str:
    """The name of a trial, or of a run at the end, in lines below each other."""
    return f"{trial.role:<9}" if trial.role else f"trial {trial.ordinal:>3}"


def standing(driver: Driver) -> Standing:
    """How a search stands."""
    from tuning.run.results import number, ranked

    ended = [trial for trial in driver.trials if trial.status != "RUNNING"]
    failed = [trial for trial in ended if trial.status == "FAILED"]
    best = [number(trial.found, driver.goal.metric) for trial in ranked(driver.trials, driver.goal)[:1]]
    return Standing(
        run=driver.spec.name,
        unit="trials",
        done=len(ended),
        in_all=driver.spec.budget.trials,
        metric=driver.goal.metric,
        best=next(iter(best), None),
        cause=f"{failed[0].cause} (the first of {len(failed)} failed trials)" if failed else "",
    )
