"""The command line: parse, call, print."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from jobs import specfile
from jobs.base import Spec
from jobs.names import printable
from jobs.paths import absolute
from jobs.spec import JobSpec
from jobs.urls import redact
from jobs.words import byte_size
from orchestrator.cli import models
from orchestrator.cli.console import (
    BAD_SPEC,
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
from orchestrator.execution.answer import STOPPED
from orchestrator.execution.interrupts import orderly
from orchestrator.home import default_uri, home

if TYPE_CHECKING:
    from orchestrator.runs.compare import Comparison

_COLUMNS = 3


def build(kinds: Mapping[str, type[Spec]]) -> typer.Typer:
    """The application, for these kinds of spec by name."""
    app = commands()
    app.callback()(_options)
    runs = commands("What is stored, how big it is, and how to delete it.")
    app.add_typer(runs, name="runs")
    app.command()(train)
    app.command()(plan)
    app.command()(compare)
    app.command()(ui)
    app.command()(sync)
    models.register(app)
    runs.command("list")(runs_list)
    runs.command("rm")(runs_rm)
    runs.command("gc")(runs_gc)

    @app.command()
    def schema(kind: Annotated[str, typer.Argument(help=" or ".join(kinds))]) -> None:
        """Print the JSON Schema of a kind of spec, for editors."""
        from jobs.specfile.schema import schema

        if kind not in kinds:
            fail(f"there is no spec called {kind}; there is {', '.join(kinds)}", BAD_SPEC)
        print(json.dumps(schema(kinds[kind]), indent=2))

    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        from orchestrator.runs.origin import release

        echo(f"orchestrator {release()}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Train image classifiers: a job is a YAML spec, Ray runs it, MLflow tracks it."""


@orderly()
def train(
    spec: Annotated[Path | None, typer.Argument(help="YAML file of the job; with --resume, the run's own.")] = None,
    set_: Overrides = [],  # noqa: B006
    resume: Annotated[
        str | None, typer.Option(metavar="RUN", help="Resume a run from its newest sound checkpoint.")
    ] = None,
    run: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Name of the run; an existing one is resumed, unless it is FINISHED."),
    ] = None,
    verify: Annotated[
        str | None, typer.Option(metavar="RUN", help="Train a run again from what MLflow holds, and compare.")
    ] = None,
    verbose: Verbose = False,
) -> None:
    """Train a job, here or on the cluster of orchestrator up or of RAY_ADDRESS."""
    from orchestrator.execution.session import expect
    from orchestrator.runs import resume as resuming

    if verify is not None:
        if spec is not None or resume is not None or run is not None or set_:
            fail("--verify RUN stands alone: the run is repeated as it was", BAD_SPEC)
        models.verify(verify, verbose)
        return
    if run is not None and (spec is None or resume is not None):
        fail("--run NAME needs the job's file, and resumes by itself; --resume RUN is for runs that exist", BAD_SPEC)
    if spec is None and resume is None:
        fail("which job? Give its file, or --resume RUN to resume a run (orchestrator runs list)", BAD_SPEC)
    expect()
    standing = None if run is None else resuming.begun(run)
    job = specfile.read(spec or resuming.stored(str(resume)), JobSpec, set_)
    if run is not None and standing:
        resume, job = run, resuming.settled(run, job)
        if standing == "FINISHED":
            resuming.check_finished(run, absolute(job))
            say("run", f"{run} (FINISHED): nothing is left to do")
            return
    from orchestrator.cli.progress import Display
    from orchestrator.execution import launch

    with Display(out, job) as display:
        result = launch.train(job, resume, display, display.tell, verbose, name=run)
    table = Table()
    table.add_column("metric")
    table.add_column("value", justify="right")
    for metric, value in sorted(result.metrics.items()):
        table.add_row(metric, f"{value:.4f}")
    if result.metrics:
        out.print(table)
    say("run", f"{result.run} ({result.status}: {result.ended_by})")
    kept = ""
    if result.status == "KILLED":
        last = "a last checkpoint was written; the run is KILLED and resumes from there"
        kept = last if result.ended_by == STOPPED else "the run is KILLED and resumes from its newest checkpoint"
    ended = replace(display.standing, run=result.run, status=result.status, cause=result.ended_by, kept=kept)
    ended.publish()
    if result.behind:
        say("tracking", f"{result.behind} events are not in MLflow yet; ship them with: orchestrator sync")
    if result.status == "KILLED":
        say("resume", f"orchestrator train --resume {result.run}")
        leave()
    if result.status == "FAILED":
        if result.kind != "nan":  # which would be the same again
            first = "free some space, then: " if result.kind == "disk" else ""
            say("resume", f"{first}orchestrator train --resume {result.run}")
        raise typer.Exit(FAILED)
    say("model", home() / "runs" / result.run / "model")
    from orchestrator.runs import links

    say("compare", links.ui(result.run))


def plan(spec: SpecPath, set_: Overrides = []) -> None:  # noqa: B006
    """Dry run: the resolved spec, updates, learning-rate curve, workers and memory; exits 1 if it cannot fit."""
    from orchestrator.execution.capacity import Cluster
    from orchestrator.execution.plan import plan
    from orchestrator.prepare import prepare

    job = specfile.read(spec, JobSpec, set_)
    lines, fits = plan(prepare(job, Cluster.at_hand()))
    print(specfile.dump(job))
    for name, text in lines.items():
        say(name, text, 12)
    if not fits:
        raise typer.Exit(FAILED)


def compare(
    names: Annotated[list[str], typer.Argument(metavar="RUN|SEARCH...", help="Runs; a search means its trials.")],
    all_: Annotated[bool, typer.Option("--all", help="All trials of a search, not only the best ten.")] = False,
) -> None:
    """What differs between runs and how they ended, and the page in MLflow's UI that compares them."""
    from orchestrator.runs import compare, links

    found = compare.compare(names, None if all_ else compare.TOP)
    out.print(_side_by_side(found))
    if found.left_out:
        out.print(f"{found.left_out} more trials: --all shows them")
    try:
        pages = links.compare(row.name for row in found.rows)
    except ConnectionError as error:
        warn(f"no link: {error}")
        return
    if any(page.startswith(links.LOCAL) for page in pages):
        for command in dict.fromkeys(links.ui(row.name) for row in found.rows):
            say("ui", f"{command}   # open the address that it prints, then:")
    for page in pages:
        say("compare", page)


def ui(
    port: Annotated[int, typer.Option(help="TCP port on the loopback interface.")] = 5000,
) -> None:
    """Open MLflow's UI over the store, on loopback and behind a token."""
    from orchestrator.tracking.ui import serve

    uri = default_uri()
    if uri.startswith("http"):
        echo(f"MLFLOW_TRACKING_URI is a server with a UI of its own: {redact(uri)}")
        return
    echo("starting MLflow (Ctrl-C ends it); the address works once, and then its browser has access")
    serve(redact(uri), port, lambda address: say("open", address))


def sync() -> None:
    """Ship what a dead tracking server left in the journals."""
    from orchestrator.tracking.sync import sync

    results = sync(home())
    for result in results:
        echo(f"{result.run}: {result.shipped} shipped, {result.left} left {result.error or ''}")
    if any(result.left or result.error for result in results):
        raise typer.Exit(FAILED)


def runs_list() -> None:
    """List the runs."""
    import time

    from orchestrator.runs import store

    wide = not out.is_terminal or out.width >= 100  # a run's name says when it started
    numbers = ("epochs", *(("val top-1", "test top-1") if wide else ("val", "test")), "size")
    table = Table(box=None, padding=(0, 1, 0, 0))
    for name in ("run", "status", *(["started"] if wide else []), *numbers):
        table.add_column(name, no_wrap=True, justify="right" if name in numbers else "left")
    for run in store.list_runs():
        started = [time.strftime("%Y-%m-%d %H:%M", time.localtime(run.started))] if wide else []
        scores = ["" if top is None else f"{top:.2%}" for top in (run.val_top1, run.test_top1)]
        epochs = f"{run.epochs}/{run.epochs_in_all or '?'}"
        table.add_row(run.name, run.status, *started, epochs, *scores, byte_size(run.size.total))
    out.print(table)


def runs_rm(run: Annotated[str, typer.Argument(help="Name of the run or search.")]) -> None:
    """Delete a run, here and in MLflow; of a search all its trials too."""
    from orchestrator.runs import store

    freed = store.remove(run)
    others = f" and {len(freed) - 1} runs of it" if len(freed) > 1 else ""
    out.print(f"{run}{others}: {byte_size(sum(freed.values()))} freed")


def runs_gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
) -> None:
    """Delete the checkpoints of finished runs."""
    from orchestrator.runs import store

    for freed in store.gc(dry_run=dry_run):
        echo(f"{byte_size(freed.bytes):>10}  {freed.path}  {freed.why}")


def _side_by_side(found: "Comparison") -> Table:
    """A line a run; of few runs a column a run, since names are long."""
    cells = [["run", *found.differing, "status", *found.metrics, "epochs", "seconds"]]
    for row in found.rows:
        params = [_value(row.params[name]) if name in row.params else "" for name in found.differing]
        scores = [f"{row.values[name]:.4f}" if name in row.values else "" for name in found.metrics]
        cells.append([row.name, *params, row.status, *scores, str(row.epochs), f"{row.seconds:.1f}"])
    if len(found.rows) <= _COLUMNS:
        cells = [list(column) for column in zip(*cells, strict=True)]
    else:
        cells[0] = [name.replace(".", ".\n") for name in cells[0]]
    table = Table()
    for place, heading in enumerate(cells[0]):
        table.add_column(heading, overflow="fold", justify="right" if place else "left")
    for line in cells[1:]:
        table.add_row(*(Text(printable(cell)) for cell in line))
    return table


def _value(value: object) -> str:
    """A field of a spec as a person reads it."""
    return f"{value:.6g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)
