"""``orchestrator search``: parse, call, print."""

from pathlib import Path
from typing import Annotated

import typer
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
    out,
    say,
)
from tuning.spec.arms import FEWEST
from tuning.spec.check import check, check_data
from tuning.spec.search import SearchSpec
from tuning.terminal import drive

search = commands("Many jobs that differ in some fields of their spec.")
SearchPath = Annotated[Path, typer.Argument(help="YAML file of the search.")]
Name = Annotated[str, typer.Argument(help="Name of the search.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what would run, and what it would cost.")]


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
    """Run a search, here or on the cluster of orchestrator up or of RAY_ADDRESS."""
    from tuning.run.named import begun

    made = read(spec, set_)
    if name is None:
        drive(made, None, False, verbose)
        return
    made = made.model_copy(update={"name": name})
    history = begun(made)
    if history is None:
        drive(made, None, False, verbose, as_named=True)
    elif history.over:
        say("search", f"{name} is over ({history.closed}): nothing is left to do")
    else:
        drive(None, name, False, verbose)


@search.command()
def resume(name: Name, verbose: Verbose = False) -> None:
    """Resume a search after any stop, kill or crash: no finished trial is repeated."""
    drive(None, name, False, verbose)


@search.command()
def retry(name: Name, verbose: Verbose = False) -> None:
    """Run the failed trials of a search again."""
    drive(None, name, True, verbose)


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
    made = read(spec, set_)
    for remark in check(made):
        say("note", remark, 12)
    _plan(made)


def _compare(spec: SearchSpec, dry_run: bool, verbose: bool) -> None:
    """Run a search over arms, or say what it would do."""
    from tuning.report.board import arms_board

    assert spec.arms is not None
    for left, why in spec.arms.left_out.items():
        echo(f"{left} is not tried: {why}")
    if not dry_run:
        drive(spec, None, False, verbose)
        return
    out.print(arms_board(spec.arms))
    _plan(spec)


def _plan(spec: SearchSpec) -> None:
    from orchestrator.execution.capacity import Cluster
    from tuning.run.launch import earlier
    from tuning.run.plan import plan
    from tuning.run.prepare import prepare

    earlier(spec)
    prepared = prepare(spec, Cluster.at_hand())
    check_data(spec, len(prepared.job.data.train))
    lines, fits = plan(prepared)
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
        out.print(verdict_board(history.spec, list(history.trials.values()), "verdict", history.over))
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
