"""A stage whose cells raise, die, hang and poison their process, for the tests of its runner."""

from __future__ import annotations

import os
import signal
import time

from benchmarks.gpu.cell import Cell, Row, Setting, Stage


def fine(setting: Setting) -> Row:
    print("what a library prints does not reach the rows")
    return {"ok": True, "pid": os.getpid()}


def raises(setting: Setting) -> Row:
    raise ValueError("no\nmore")


def dies(setting: Setting) -> Row:
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def hangs(setting: Setting) -> Row:
    time.sleep(600)
    return {}


def poisons(setting: Setting) -> Row:
    raise RuntimeError("CUDA error: an illegal memory access was encountered")


def cells(setting: Setting) -> list[Cell]:
    acts = {"first": fine, "raises": raises, "poisons": poisons, "dies": dies, "hangs": hangs, "last": fine}
    return [Cell(name, act, 2.0 if name == "hangs" else 60.0) for name, act in acts.items()]


STAGE = Stage("broken", "nothing", 60.0, cells)
