"""A process that answers cells of one stage, line by line to its parent; ``benchmarks.gpu.runner`` starts it.

python -m benchmarks.gpu.child MODULE SETTING.json CELL ...
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from benchmarks.gpu.cell import Row, Setting

POISONED = 3
"""Exit code of a process whose GPU answers nothing any more."""


def answer(act: Any, setting: Setting) -> Row:
    """What a cell says, or how it failed: the error, and where in the repository it came up."""
    try:
        return dict(act(setting))
    except Exception as error:
        root = str(Path(__file__).parents[2])
        places = [
            f"{frame.filename.removeprefix(root).lstrip('/')}:{frame.lineno}"
            for frame in traceback.extract_tb(error.__traceback__)
            if frame.filename.startswith(root) and "site-packages" not in frame.filename
        ]
        traceback.print_exc()
        text = (str(error).strip().splitlines() or [""])[0][:300]
        return {"error": f"{type(error).__name__}: {text}", "at": places[-1] if places else ""}


def main() -> None:
    told = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever a library prints goes to the log

    def tell(**line: Any) -> None:
        told.write(json.dumps(line) + "\n")

    module, path, *names = sys.argv[1:]
    raw = json.loads(Path(path).read_text(encoding="utf-8"))
    setting = Setting(raw["device"], raw["quick"], Path(raw["folder"]))
    cells = {cell.name: cell for cell in importlib.import_module(module).STAGE.cells(setting)}
    if setting.device == "cuda":
        import torch

        torch.zeros(1, device="cuda")  # not on the first cell's time
    for name in names:
        tell(began=name)
        began = time.monotonic()
        row = answer(cells[name].act, setting)
        tell(ended=name, row=row, seconds=time.monotonic() - began)
        if "CUDA error" in row.get("error", "") or "AcceleratorError" in row.get("error", ""):
            sys.exit(POISONED)


if __name__ == "__main__":
    main()
