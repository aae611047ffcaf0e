"""What all commands share: where they print, how they fail, and options that several have."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Never, TextIO, cast

import typer
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress

from jobs.data.progress import Advance, in_words, shown
from jobs.lock import Locked
from jobs.names import printable_lines
from orchestrator.execution.interrupts import current

BAD_SPEC, FAILED, INTERRUPTED = 2, 1, 130
"""Exit codes: a wrong spec or argument, a failed run or an unreachable server, an interrupt."""


class _Stream:
    """Standard output or error, as Python has it at the moment. When its terminal is closed or its reader has ended,
    what is written from then on is dropped: a run must not fail because nobody looks at it any more.

    Args:
        name: ``stdout`` or ``stderr``.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def write(self, text: str) -> int:
        """Write it."""
        with self._dropping():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush what was written."""
        with self._dropping():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @property
    def _stream(self) -> Any:
        stream = getattr(sys, self._name)
        return getattr(stream, "rich_proxied_file", stream)  # a live display takes its place meanwhile

    @contextmanager
    def _dropping(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in (errno.EIO, errno.EPIPE):
                raise
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


out = Console(file=cast(TextIO, _Stream("stdout")), highlight=False, width=None if sys.stdout.isatty() else 160)
err = Console(file=cast(TextIO, _Stream("stderr")), stderr=True, highlight=False)

Overrides = Annotated[list[str], typer.Option("--set", "-s", metavar="NAME=VALUE", help="Override by dotted name.")]
SpecPath = Annotated[Path, typer.Argument(help="YAML file of the job.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show Ray's own messages.")]


def echo(text: object) -> None:
    """Print text without markup and line breaks of our own; what no terminal should get is escaped."""
    out.print(printable_lines(str(text)), markup=False, soft_wrap=True)


def say(label: str, text: object, width: int = 8) -> None:
    """Print a line that begins with a label."""
    echo(f"{label:<{width}} {text}")


def warn(message: object) -> None:
    """Print a line to standard error."""
    err.print(printable_lines(str(message)), markup=False, soft_wrap=True)


def fail(message: object, code: int) -> Never:
    """Print what is wrong to standard error, and exit."""
    warn(message)
    raise typer.Exit(code)


def leave() -> Never:
    """Exit after an interrupt, once everything is said; what is signalled from now on changes nothing."""
    signals = current()
    signals.ignore()
    if signals.twice:  # Ray still waits for workers, and an orderly exit of Ray would end with code 1
        sys.stdout.flush()
        os._exit(INTERRUPTED)
    raise typer.Exit(INTERRUPTED)


@contextmanager
def exit_codes() -> Iterator[None]:
    """Turn the errors of a command into a message and an exit code."""
    try:
        yield
    except ValueError as error:
        fail(error, BAD_SPEC)
    except (ConnectionError, Locked) as error:
        fail(error, FAILED)
    except OSError as error:
        from orchestrator.execution.failures import kind_of

        if kind_of(error) != "disk":
            raise
        fail(f"the disk is full: {str(error).strip().splitlines()[-1]}; free some space, and try again", FAILED)
    except KeyboardInterrupt:
        fail("interrupted", INTERRUPTED)


class _Commands(typer.core.TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        with exit_codes(), _bars():
            return super().invoke(ctx)


@contextmanager
def _bars() -> Iterator[None]:
    """Show how far long readings of images have come: a bar on a terminal, else a line every half minute."""
    if not err.is_terminal:
        with shown(in_words(warn, 30)):
            yield
        return
    with Progress(*Progress.get_default_columns(), MofNCompleteColumn(), console=err, transient=True) as bars:
        bars.stop()

        def show(what: str, total: int, done: int) -> Advance:
            task = bars.add_task(what, total=total, completed=done)
            bars.start()

            def advance(count: int) -> None:
                bars.advance(task, count)
                if all(each.finished for each in bars.tasks):
                    bars.stop()

            return advance

        with shown(show):
            yield


def commands(help: str | None = None) -> typer.Typer:
    """A group of commands whose errors become exit codes (:func:`exit_codes`)."""
    return typer.Typer(
        cls=_Commands, help=help, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
    )
