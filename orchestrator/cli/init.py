"""``orchestrator init``: parse, call, print."""

import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from jobs.paths import absolute
from jobs.words import duration
from orchestrator.cli.console import BAD_SPEC, FAILED, err, fail, out


def init(
    images: Annotated[
        str,
        typer.Argument(
            help="Folder of images, a folder a class; a table of paths and classes; or shards, here or at a URL."
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="The job's file, IMAGES_job.yaml unless given. The search's file is beside it, by the same name "
            "with _search in place of _job, or at its end.",
        ),
    ] = None,
    pretrained: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|[NAME=]FILE|RUN|none",
            help="Weights to start from: a network of torchvision or timm, a file, one of your runs, or none; unless "
            "given, the library's are tried.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite existing files.")] = False,
) -> None:
    """Look at images, say what is wrong with them, and write a recipe and a search of it, with reasons."""
    from orchestrator.init.write import names

    stem = Path(images).expanduser().resolve().stem  # of a URL, its last part
    output = (output or Path(f"{stem}_job.yaml")).expanduser()
    job, search, other = names(output)
    if there := [str(path) for path in (output, other) if path.exists() and not force]:
        fail(f"{' and '.join(there)} would be overwritten; give another file with -o, or --force", BAD_SPEC)
    try:
        _init(images, output, job, search, other, pretrained)
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}", FAILED)


def _init(images: str, output: Path, job: str, search: str, other: Path, pretrained: str | None) -> None:
    from orchestrator.execution.pretrained import resolve
    from orchestrator.init.choose import choose
    from orchestrator.init.look import look
    from orchestrator.init.machine import Machine
    from orchestrator.init.show import show
    from orchestrator.init.source import recognise
    from orchestrator.init.start import find
    from orchestrator.init.survey import survey
    from orchestrator.init.write import job_text, search_text

    machine = Machine.here()  # before it is kept busy with these images
    source, notes = recognise(images)
    classes, stores, more = source.stores()
    with _bar() as bar:
        tasks: dict[str, object] = {}

        def progress(what: str, done: int, of: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=of)
            bar.update(tasks[what], completed=done)  # type: ignore[arg-type]

        seen = look(stores, progress)
    found = survey(source, classes, stores, seen)
    with err.status("looking for weights to start from"):
        start = find(pretrained, machine)
    with err.status("timing a few updates"):
        recipe = choose(job, found, machine, start)
    resolve(absolute(recipe.spec))  # whether the weights fit
    text = job_text(output, found, recipe, start.advice)
    other_text, cost = search_text(search, other, output, found, recipe, machine)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(text, encoding="utf-8")
    other.write_text(other_text, encoding="utf-8")
    following = [
        (f"orchestrator plan {shlex.quote(str(output))}", "what it will do and take"),
        (f"orchestrator train {shlex.quote(str(output))}", f"about {duration(60 * recipe.minutes)}"),
        (f"orchestrator search launch {shlex.quote(str(other))}", cost),
    ]
    show(out, found, recipe, [*notes, *more, *([start.told] if start.told else [])], following)


def _bar() -> Progress:
    """On standard error, and gone once done."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)
