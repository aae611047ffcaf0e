"""The command line; see the package."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

from benchmarks.gpu import page, runner
from benchmarks.gpu.cell import Setting
from benchmarks.gpu.rows import Rows

PAGE = Path(__file__).parents[2] / "docs" / "gpu.md"


def main() -> None:
    """Measure what is missing, or write the page of what is there."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description="What is to be known of one GPU.")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="where gpu.jsonl is")
    parser.add_argument("--only", choices=page.STAGES, action="append", help="these stages alone")
    parser.add_argument("--cell", default="", metavar="TEXT", help="cells with this in their name alone")
    parser.add_argument("--minutes", type=float, default=8.0, help="for all of it (default 8)")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="the smallest sizes: shows that it works, not how fast")
    parser.add_argument("--retry", action="store_true", help="ask again what failed")
    parser.add_argument("--table", action="store_true", help=f"measure nothing, write {PAGE.name} from the rows")
    given = parser.parse_args()
    if given.table:
        PAGE.write_text(page.text(given.output), encoding="utf-8")
        return
    until = time.monotonic() + 60 * given.minutes
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    rows = Rows(Setting(given.device, given.quick, given.output), given.retry)
    for name in given.only or page.STAGES:
        left = until - time.monotonic()
        limit = left if given.only else min(left, runner.limit(name))
        if limit > 0 and not runner.run(f"benchmarks.gpu.{name}", rows, limit, given.cell):
            print(f"{name}: not all of it is answered yet", flush=True)


if __name__ == "__main__":
    main()
