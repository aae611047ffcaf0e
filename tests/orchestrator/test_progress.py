"""What a person sees: a table that fits 80 columns on a terminal, plain named values elsewhere."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from jobs.report import Progress, Record
from jobs.words import duration
from orchestrator.cli.progress import Display, seconds_left
from orchestrator.tracking.state import State
from tests.orchestrator.real import job

EPOCH = {"train/loss": 0.61234, "val/loss": 0.5, "val/top1": 0.98765, "lr": 6.169e-05, "images_per_s": 12345.6}


def state(
    epoch: int = 0, progress: Progress | None = None, trouble: str | None = None, stopping: bool = False
) -> State:
    values = EPOCH | {"epoch_s": 2.5, "val/recall/7": 1.0} if epoch else {}
    records = [Record(name, epoch, value) for name, value in values.items()]
    return State(progress, records, len(records), 0, trouble, stopping, None)


def shown(*states: State, width: int = 80, terminal: bool = True) -> str:
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=terminal, color_system=None, highlight=False)
    with Display(console, job()) as display:
        display.tell("opening the data")
        for one in states:
            display(one)
    return re.sub(r"\x1b\[[?\d;]*[a-zA-Z]", "", file.getvalue()).replace("\r", "\n")


def test_a_terminal_of_80_columns_gets_a_table_whose_rows_fit() -> None:
    lines = [line for line in shown(state(7), state(8)).splitlines() if "lr" in line or "/15" in line]
    assert [line.split() for line in lines] == [
        ["epoch", "loss", "val", "loss", "val", "top-1", "lr", "images/s", "s"],
        ["7/15", "0.6123", "0.5000", "98.77%", "6.17e-05", "12,346", "2.5"],
        ["8/15", "0.6123", "0.5000", "98.77%", "6.17e-05", "12,346", "2.5"],
    ]
    assert len(lines[1]) == len(lines[2]) <= 79


@pytest.mark.parametrize("terminal", [True, False])
def test_what_no_terminal_should_get_is_escaped(terminal: bool) -> None:
    file = io.StringIO()
    console = Console(file=file, width=200, force_terminal=terminal, color_system=None, highlight=False)
    with Display(console, job()) as display:
        display.tell("the class \x1b]0;owned\x07ant has 1 image\nthe file b\udcffd.png is passed over", True)
        display.tell("reading \x1b[2J[red]", False)
    assert (
        "the class \\x1b]0;owned\\x07ant has 1 image\nthe file b\\udcffd.png is passed over"
        in file.getvalue().replace("\r", "")
    )
    assert "owned\x07" not in file.getvalue() and "\x1b[2J" not in file.getvalue()


def test_an_epoch_without_an_evaluation_leaves_its_columns_empty() -> None:
    records = [Record(name, 2, value) for name, value in EPOCH.items() if not name.startswith("val/")]
    text = shown(state(1), State(None, records, 0, 0, None, False, None))
    full, empty = (line for line in text.splitlines() if "/15" in line)
    assert full.index("12,346") == empty.index("12,346")


def test_without_a_terminal_lines_are_plain_and_name_their_values() -> None:
    text = shown(state(7, Progress(140, 300, 7, 15, 0.5, 100.0, 64)), terminal=False)
    assert text == (
        "opening the data\n"
        "epoch    7/15  train/loss 0.6123  val/loss 0.5  val/top1 0.9877  lr 6.169e-05  "
        "images_per_s 1.235e+04  epoch_s 2.5\n"
    )


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_the_live_line_is_one_line_whatever_the_width(width: int) -> None:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    display = Display(console, job())
    display(state(1, Progress(123456, 450000, 103, 375, 12.3456, 12345.6, 64)))
    with console.capture() as capture:
        console.print(display._render())
    (line,) = capture.get().splitlines()
    assert len(line) <= width
    assert "epoch 103/375" in line and "27%" in line and "min left" in line
    assert ("loss" in line) == (width >= 60)
    assert ("images/s" in line) == (width >= 80)


def test_the_first_look_at_the_loss_is_not_shown_before_there_is_one() -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    display = Display(console, job())
    display(state(progress=Progress(1, 300, 1, 15, float("nan"), 3.0, 64)))
    with console.capture() as capture:
        console.print(display._render())
    assert "nan" not in capture.get() and "left" not in capture.get()
    display(state(1, Progress(21, 300, 2, 15, float("nan"), 3.0, 64)))
    with console.capture() as capture:
        console.print(display._render())
    assert "nan" not in capture.get() and "35 s left" in capture.get(), "by the first epoch's time"


def test_trouble_and_stopping_are_said_once() -> None:
    text = shown(state(trouble="server down"), state(trouble="server down", stopping=True), state(stopping=True))
    assert text.count("tracking: server down") == 1
    assert text.count("interrupt again to leave at once") == 1


def test_the_time_left_goes_by_whole_epochs_once_there_are_any() -> None:
    at = Progress(150, 300, 8, 15, 0.5, 640.0, 64)
    assert seconds_left(at, []) == pytest.approx(15.0)
    assert seconds_left(at, [100.0, 4.0, 4.0]) == pytest.approx(0.5 * 15 * 4.0)
    assert seconds_left(Progress(0, 300, 1, 15, 0.5, 0.0, 64), []) is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (99.4, "99 s"), (100, "2 min"), (5900, "98 min"), (6000, "1 h 40 min"), (3 * 86400, "3 d 0 h")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
