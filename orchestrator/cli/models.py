"""What to do with a trained model: evaluate, predict, export, promote, verify. Parse, call, print."""

from __future__ import annotations

import csv
import io
import itertools
import shlex
import sys
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table
from rich.text import Text

from jobs.names import printable
from jobs.urls import redact
from orchestrator.cli.console import FAILED, echo, fail, out, say, warn
from orchestrator.home import default_uri
from orchestrator.tracking.uri import full_uri

if TYPE_CHECKING:
    import _csv

    from jobs.predict import Prediction
    from orchestrator.models.evaluation import Evaluation

Run = Annotated[str, typer.Argument(metavar="RUN", help="A run's name, its id in MLflow, or the folder of a model.")]
_SHOWN = 20


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    for command in (evaluate, predict, export, promote):
        app.command()(command)


def evaluate(
    run: Run,
    data: Annotated[
        str,
        typer.Option(
            metavar="PATH|test|val",
            help="Class folders, Parquet files, shards or a table of paths, or a split of the run's own.",
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for metrics and figures; the run's unless given.")
    ] = None,
    max_corrupt: Annotated[int, typer.Option(min=0, help="Unreadable images that may be left out.")] = 0,
    image_column: Annotated[
        str | None, typer.Option(help="Of images or their paths; the run's own, image or path.")
    ] = None,
    label_column: Annotated[str | None, typer.Option(help="Of their classes; the run's own or label.")] = None,
) -> None:
    """Judge a model on labelled images: exact metrics, by class, calibration, and the figures."""
    from orchestrator.models.evaluation import evaluate

    found = evaluate(run, data, output, max_corrupt, (image_column, label_column))
    _show(found)


def predict(
    run: Run,
    images: Annotated[list[str], typer.Argument(metavar="IMAGES...", help="Files, folders (all below them), globs.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="CSV file; standard output unless given.")
    ] = None,
    top: Annotated[
        int | None, typer.Option(min=1, metavar="K", help="The K likeliest classes, in place of a column a class.")
    ] = None,
    quote_formulas: Annotated[
        bool, typer.Option(help="A ' before text that a spreadsheet would calculate (= + - @).")
    ] = False,
) -> None:
    """Classes and probabilities of images, as CSV in the order of their paths; folders of any size are streamed.

    Exits 1 if no image could be read.
    """
    from jobs.models import load
    from jobs.place import Place
    from jobs.predict import image_files
    from jobs.predict import predict as predictions
    from orchestrator.models import lookup

    passed_over: list[int] = [0]

    def count(path: str) -> None:
        passed_over[0] += 1

    model = load(lookup.find(run).model)
    files = image_files(images, count)
    place = Place.current()
    try:
        if not output and isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="surrogateescape")
        with (
            open(output, "w", newline="", encoding="utf-8", errors="surrogateescape")  # names of files need not be text
            if output
            else nullcontext(sys.stdout) as file
        ):
            found = predictions(model, files, place.device)
            done, broken = _write_csv(csv.writer(file), found, model.classes, top, quote_formulas)
    except OSError as error:
        fail(f"{output} cannot be written: {error.strerror}", FAILED)
    if output:
        warn(f"{done - len(broken)} images -> {output}")
    if passed_over[0]:
        warn(f"{passed_over[0]} files or folders passed over: not an image's suffix, or not to be listed")
    if broken:
        warn(f"warning: {len(broken)} of {done} files cannot be read (column error):")
        for line in itertools.islice(broken, _SHOWN):
            warn(f"  {printable(line)}")
        if len(broken) > _SHOWN:
            warn(f"  and {len(broken) - _SHOWN} more")
    if done == len(broken):
        fail("there is no image that can be read", FAILED)


def export(
    run: Run,
    to: Annotated[Literal["onnx", "torch-export", "safetensors"], typer.Option(help="What to make of it.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="New folder; exports/... of the run's unless given.")
    ] = None,
) -> None:
    """One file for other programs, which takes uint8 images; compared with the model before it counts as done."""
    from jobs.models.export import FILES, ParityError
    from jobs.models.export import export as make
    from orchestrator.models import lookup

    found = lookup.find(run)
    target = output or found.output / "exports" / to
    try:
        difference, limit = make(found.model, target, to)
    except ParityError as error:
        fail(f"{error}; nothing was kept", FAILED)
    say("parity", f"logits differ by {difference:.2g} at most (tolerated: {limit:.2g})")
    say("export", target.absolute() / FILES[to])
    say("see", "model.json beside it: classes, input, preprocessing")


def promote(
    run: Annotated[str, typer.Argument(metavar="RUN|SEARCH", help="A search means the run that it chose.")],
    alias: Annotated[str, typer.Option(help="Such as champion; it is taken from the version that has it.")],
    name: Annotated[str | None, typer.Option(help="Of the registered model; the job's unless given.")] = None,
) -> None:
    """Register a model in MLflow, with all that is needed to use it and to train it again."""
    from orchestrator.models.promotion import promote

    made = promote(run, alias, name)
    say("model", f"{made.name} version {made.version} is {made.alias}, of run {made.run}")
    store = redact(full_uri(made.store))
    hidden = store != default_uri() and store == redact(default_uri())
    say("load", f"{'' if hidden else f'mlflow.set_tracking_uri({store!r}); '}mlflow.pyfunc.load_model({made.uri!r})")
    say("serve", f"MLFLOW_TRACKING_URI={shlex.quote(store)} \\")
    echo(f"         mlflow models serve --env-manager local -m {shlex.quote(made.uri)}")
    if hidden:
        out.print("         (both with the password that is in MLFLOW_TRACKING_URI now)")


def _write_csv(
    writer: _csv.Writer, predictions: Iterable[Prediction], classes: Sequence[str], top: int | None, quoted: bool
) -> tuple[int, list[str]]:
    """How many rows were written, and which files cannot be read.

    Args:
        writer: where to.
        predictions: a row each.
        classes: their names.
        top: number of the likeliest classes; None is a column for each class.
        quoted: whether text that a spreadsheet would take for a formula begins with a quote.
    """

    def text(cell: str) -> str:
        return f"'{cell}" if quoted and cell[:1] in ("=", "+", "-", "@", "\t", "\r", "\n") else cell

    classes = list(map(text, classes))
    count = min(top, len(classes)) if top else 0
    ranks = [(f"class_{rank}", f"probability_{rank}") for rank in range(2, count + 1)]
    head = list(itertools.chain.from_iterable(ranks)) if top else [f"p({name})" for name in classes]
    writer.writerow(["file", "class", "probability", *head, "error"])
    done, broken = 0, []
    for prediction in predictions:
        done += 1
        if prediction.probabilities is None:
            broken.append(f"{prediction.file}: {prediction.error}")
            writer.writerow([text(prediction.file), "", "", *[""] * len(head), text(prediction.error)])
            continue
        order = (-prediction.probabilities).argsort(kind="stable")
        pairs = [(classes[place], f"{prediction.probabilities[place]:.6g}") for place in order[: max(count, 1)]]
        rest = itertools.chain.from_iterable(pairs[1:]) if top else (f"{p:.6g}" for p in prediction.probabilities)
        writer.writerow([text(prediction.file), *pairs[0], *rest, ""])
    return done, broken


def _show(found: Evaluation) -> None:
    for note in found.notes:
        say("note", printable(note))
    if found.skipped:
        say("warning", f"{len(found.skipped)} images cannot be read and were left out:")
        for line in found.skipped[:_SHOWN]:
            echo(f"         {printable(line)}")
    table = Table("metric", title=f"{found.count:,} images", title_justify="left")
    table.add_column("value", justify="right")
    if found.recorded:
        table.add_column("recorded by the run", justify="right")
    for name, value in found.metrics.items():
        recorded = found.recorded.get(name)
        same = "" if recorded is None else f"{recorded:.6f}" if recorded != value else "the same"
        table.add_row(name, f"{value:.6f}", *([same] if found.recorded else []))
    out.print(table)
    rows = [row for row in found.classes if row["count"] or row["predicted"]]
    worst = (
        sorted(rows, key=lambda row: (row["recall"] is None, row["recall"]))[:_SHOWN] if len(rows) > _SHOWN else rows
    )
    title = f"the {_SHOWN} classes of lowest recall" if len(rows) > _SHOWN else None
    table = Table("class", title=title, title_justify="left")
    for heading in ("images", "recall", "predicted", "precision"):
        table.add_column(heading, justify="right")
    for row in worst:
        recall, precision = ("" if row[key] is None else f"{row[key]:.4f}" for key in ("recall", "precision"))
        table.add_row(Text(printable(row["name"])), str(row["count"]), recall, str(row["predicted"]), precision)
    out.print(table)
    say("figures", found.folder)


def verify(name: str, verbose: bool) -> None:
    """Repeat a run and say whether it came out again; exits 1 if it did not."""
    from orchestrator.cli.progress import Display
    from orchestrator.execution.verify import Repetition, words

    repetition = Repetition.of(name)
    try:
        with Display(out, repetition.spec) as display:
            found = repetition.run(display, display.tell, verbose)
    except RuntimeError as error:
        fail(error, FAILED)
    if found.machine:
        table = Table("of the machine", found.before.run, found.again.run)
        for tag, values in found.machine.items():
            table.add_row(tag, *(value or "-" for value in values))
        out.print(table)
    for line in words(found):
        echo(line)
    if not found.equal:
        raise typer.Exit(FAILED)
