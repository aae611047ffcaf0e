"""``orchestrator search``: parse, call, print."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from jobs import specfile
from orchestrator.cli.console import (
    FAILED,
    Overrides,
    SpecPath,
    Verbose,
    commands,
    echo,
    fail,
    leave,
    out,
    say,
    warn,
)
from orchestrator.execution.interrupts import orderly
from orchestrator.runs.standing import Standing
from tuning.spec.arms import FEWEST
from tuning.spec.check import check
from tuning.spec.search import SearchSpec

if TYPE_CHECKING:
    from tuning.run.driver import Driver
    from tuning.run.results import Trial

search = commands("Many jobs that differ in some fields of their spec.")
SearchPath = Annotated[Path, typer.Argument(help="YAML file of the search.")]
Name = Annotated[str, typer.Argument(help="Name of the search.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what would run, and what it would cost.")]
_SHOWN = 10


def read(path: Path, overrides: list[str]) -> SearchSpec:
    """The search in a file, checked."""
    spec = specfile.read(path, SearchSpec, overrides)
    check(spec)
    return spec


@search.command()
def launch(
    spec: SearchPath,
    set_: Overrides = [],  # noqa: B006
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Name of the search; an existing one is resumed, unless it is over."),
    ] = None,
    verbose: Verbose = False,
) -> None:
    """Run a search, here or on the cluster of RAY_ADDRESS."""
    from tuning.run.named import begun

    made = read(spec, set_)
    if name is None:
        _drive(made, None, False, verbose)
        return
    made = made.model_copy(update={"name": name})
    history = begun(made)
    if history is None:
        _drive(made, None, False, verbose, as_named=True)
    elif history.over:
        say("search", f"{name} is over ({history.closed}): nothing is left to do")
    else:
        _drive(None, name, False, verbose)


@search.command()
def resume(name: Name, verbose: Verbose = False) -> None:
    """Resume a search after any stop, kill or crash: no finished trial is repeated."""
    _drive(None, name, False, verbose)


@search.command()
def retry(name: Name, verbose: Verbose = False) -> None:
    """Run the failed trials of a search again."""
    _drive(None, name, True, verbose)


@search.command()
def confirm(
    name: Name,
    top: Annotated[int, typer.Option(min=1, help="Trials to confirm, the best first.")] = 3,
    seeds: Annotated[int, typer.Option(min=FEWEST, help="Fresh seeds that each is trained on.")] = 5,
    dry_run: DryRun = False,
    verbose: Verbose = False,
) -> None:
    """Train the best of a search and its base job again on fresh seeds, and say which differ on the test split."""
    from tuning.run.history import History
    from tuning.run.named import find
    from tuning.studies.confirm import confirm

    spec, remarks = confirm(History.look(find(name)), top, seeds)
    for remark in remarks:
        echo(remark)
    _compare(spec, dry_run, verbose)


def ablate(
    spec: SpecPath,
    seeds: Annotated[int, typer.Option(min=FEWEST, help="Seeds that each arm is trained on.")] = 3,
    trick: Annotated[
        list[str], typer.Option("--trick", "-t", help="Only this one, and others so named; --dry-run lists them.")
    ] = [],  # noqa: B006
    stack: Annotated[bool, typer.Option("--stack", help="Also put the tricks one upon the other, in order.")] = False,
    set_: Overrides = [],  # noqa: B006
    dry_run: DryRun = False,
    verbose: Verbose = False,
) -> None:
    """Take every trick of a recipe away in turn, and add each alone: a search with a table of what pays."""
    from tuning.studies.ablation import ablation

    made = ablation(spec, set_, seeds, trick, stack)
    _compare(made, dry_run, verbose)


@search.command()
def plan(spec: SearchPath, set_: Overrides = []) -> None:  # noqa: B006
    """Dry run: trials, epochs, what the scheduler saves, concurrency, memory and disk; exits 1 if it cannot fit."""
    _plan(read(spec, set_))


def _compare(spec: SearchSpec, dry_run: bool, verbose: bool) -> None:
    """Run a search over arms, or say what it would do."""
    from tuning.report.board import arms_board

    assert spec.arms is not None
    for left, why in spec.arms.left_out.items():
        echo(f"{left} is not tried: {why}")
    if not dry_run:
        _drive(spec, None, False, verbose)
        return
    out.print(arms_board(spec.arms))
    _plan(spec)


def _plan(spec: SearchSpec) -> None:
    from orchestrator.execution.capacity import Cluster
    from tuning.run.plan import plan
    from tuning.run.prepare import prepare

    lines, fits = plan(prepare(spec, Cluster.at_hand()))
    for name, text in lines.items():
        say(name, text, 12)
    if not fits:
        raise typer.Exit(FAILED)


@search.command("list")
def list_searches() -> None:
    """The searches under ORCHESTRATOR_HOME, the newest first."""
    import time

    from tuning.run.listing import searches

    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("search", "status", "trials", "best", "started"):
        table.add_column(heading, overflow="fold")
    for row in searches():
        started = time.strftime("%Y-%m-%d %H:%M", time.localtime(row.started)) if row.started else ""
        table.add_row(*map(Text, (row.name, row.state, row.trials, row.best, started)))
    out.print(table)


@search.command()
def status(name: Name) -> None:
    """How a search stands, also while it runs in another terminal."""
    from tuning.report.board import board, verdict_board
    from tuning.run import listing
    from tuning.run.history import History
    from tuning.run.named import find
    from tuning.studies import final

    folder = find(name)
    history = History.look(folder)
    assert history.spec is not None
    state = listing.state(folder, history)
    running = state.startswith("running")
    out.print(board(history.spec, list(history.trials.values()), f"{name}: {state}", running, 10**6))
    if history.spec.arms is not None:
        out.print(verdict_board(history.spec.arms, list(history.trials.values()), "verdict"))
    for label, text in final.lines(history).items():
        say(label, text)
    if not running and not history.over:
        say("resume", f"orchestrator search resume {name}")


@search.command()
def report(
    name: Name,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="HTML file; in the search's folder unless given."),
    ] = None,
) -> None:
    """Write the findings of a search so far as one HTML file that needs no network; over arms, the verdict too."""
    from tuning.report import page, write
    from tuning.report.findings import Findings
    from tuning.run.named import find

    folder = find(name)
    findings = Findings.of(folder)
    path = output or folder / write.REPORT
    try:
        path.write_text(page.render(findings, write.panels(findings)), encoding="utf-8")
        verdicts = write.write_verdict(findings, folder)
    except OSError as error:
        fail(f"the report cannot be written to {error.filename}: {error.strerror}", FAILED)
    say("report", path.absolute())
    for written in verdicts[1:]:
        say("verdict", written.absolute())


@orderly()
def _drive(spec: SearchSpec | None, name: str | None, again: bool, verbose: bool, as_named: bool = False) -> None:
    from tuning.report.board import board, verdict_board
    from tuning.report.links import links
    from tuning.run.launch import search as run
    from tuning.studies import final

    doing = Text("")
    shown: set[tuple[int, int]] = set()
    ended: set[int] = set()
    standings: list[Standing] = []

    def tell(text: str, lasting: bool) -> None:
        if lasting or not out.is_terminal:
            echo(text)
        doing.plain = "" if lasting else text

    def show(driver: "Driver") -> None:
        if out.is_terminal:
            last = Text("\n".join(f"{label}: {text}" for label, text in final.lines(driver.history).items()))
            live.update(Group(board(driver.spec, driver.trials, driver.spec.name, True, _SHOWN), last, doing))
            return
        for trial in (*driver.trials, *driver.history.last.values()):
            for epoch, values in sorted(trial.results.items()):
                if (trial.ordinal, epoch) not in shown:
                    shown.add((trial.ordinal, epoch))
                    value = values.get(driver.goal.metric, float("nan"))
                    epochs = driver.finals.job(trial).epochs
                    place = f"{_called(trial)}  epoch {epoch:>3}/{epochs}"
                    line = f"{place}  {driver.goal.metric} {value:.4f}"
                    echo(line)
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
    from tuning.run.history import History
    from tuning.run.named import find

    history = History.look(find(outcome.name))
    assert history.spec is not None
    title = f"{outcome.name}: {outcome.status} ({outcome.why})"
    if history.spec.arms is not None:
        out.print(verdict_board(history.spec.arms, outcome.trials, title))
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
    kept = "" if history.over else "no finished trial is repeated"
    for last in standings[-1:]:
        replace(last, status=outcome.status, cause=last.cause or outcome.why, kept=kept).publish()
    if outcome.status == "KILLED":
        leave()
    if not outcome.ranked:
        warn("no trial came to a result")
        raise typer.Exit(FAILED)


def _called(trial: "Trial") -> str:
    """The name of a trial, or of a run at the end, in lines below each other."""
    return f"{trial.role:<9}" if trial.role else f"trial {trial.ordinal:>3}"


def standing(driver: "Driver") -> Standing:
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
