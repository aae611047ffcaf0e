"""Memory over a search of many tiny trials, and what launching a trial costs.

Goal: after trial 30 and the last what it was after trial 3. The launch overhead is the time between two trials of
one process, less what the trial itself reports as its epochs: set-up, first evaluation's kernels, saving the model.
"""

from __future__ import annotations

import json
import time
from typing import Any

import psutil

from benchmarks.measure import ROOT, header, options, table, workplace

_END_S = 10.0
_MARKS = (3, 10, 30, 100)
"""Trials after which it is looked at."""
PARTS = {
    "driver": None,
    "trials' processes": "Trainable",
    "recorder": "Recorders",
    "workers": "RayTrainWorker",
    "controller": "GroupController",
}
LEFT = ["processes", "sockets", "placement groups"]


def main() -> None:
    parser = options(__doc__, pairs=1)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--workers", type=int, choices=[1, 2], default=1, help="of a trial")
    parser.add_argument("--alone", action="store_true", help="one trial at a time, though there is room for two")
    given = parser.parse_args()
    side = 1 if given.alone else 2 // given.workers
    if given.quick:
        given.trials = 8
    header(given)
    with workplace() as folder:
        from jobs import specfile
        from orchestrator.execution.session import start_ray
        from tuning.run import launch
        from tuning.spec.search import SearchSpec

        spec = {
            "name": "many",
            "job": str(ROOT / "jobs/recipes/digits.yaml"),
            "set": {"resources.workers": given.workers, "model.width": 8, "schedule.warmup_epochs": 0},
            "space": {"optimizer.lr": {"kind": "loguniform", "low": 0.01, "high": 0.2}},
            "searcher": {"kind": "random"},
            "budget": {"trials": given.trials, "epochs_per_trial": 1},
            "max_concurrent": side,
            "finish": False,
        }
        (folder / "many.yaml").write_text(json.dumps(spec), encoding="utf-8")
        seen: dict[int, dict[str, float]] = {}
        ends: list[tuple[float, int]] = []
        ahead = [count for count in _MARKS if count < given.trials] + [given.trials]

        def look(driver: Any) -> None:
            ended = sum(trial.status != "RUNNING" for trial in driver.trials)
            if ended and (not ends or ends[-1][1] < ended):
                ends.append((time.monotonic(), ended))
            if ended >= ahead[0]:  # looking takes this process, which hands out trials, a tenth of a second
                seen[ended] = memory() | left()
                ahead[:] = [count for count in ahead if count > ended] or [given.trials + 1]

        start_ray(dashboard=given.workers > 1)
        outcome = launch.search(specfile.read(folder / "many.yaml", SearchSpec), show=look)
        time.sleep(_END_S)
        after_all = left()
        assert {trial.status for trial in outcome.trials} == {"FINISHED"}
        spent = [trial.values["epoch_s"] for trial in outcome.trials]
        rows = []
        for ended, found in seen.items():
            rows.append([f"trial {ended}", *(f"{found[name]:.0f}" for name in (*PARTS, *LEFT))])
        rows.append(["the search", *[""] * len(PARTS), *(f"{after_all[name]:.0f}" for name in LEFT)])
        title = f"MB (PSS) over {given.trials} trials of {given.workers} workers, and what is there"
        table(title, "after", [*PARTS, *LEFT], rows)
        (first, before), (last, after) = ends[min(3, len(ends) - 2)], ends[-1]
        each = side * (last - first) / (after - before)
        print(f"{each:.3f} s a trial, {side} at a time, {sum(spent) / len(spent):.3f} s of it its epoch")


def memory() -> dict[str, float]:
    """MB of PSS by part; the trials' processes are of one kind each, so their mean counts."""
    found: dict[str, list[float]] = {name: [] for name in PARTS}
    me = psutil.Process()
    found["driver"].append(me.memory_full_info().pss / 2**20)
    for process in me.children(recursive=True):
        try:
            title = " ".join(process.cmdline())
            for name, mark in PARTS.items():
                if mark and title.startswith("ray::") and mark in title:
                    found[name].append(process.memory_full_info().pss / 2**20)
        except psutil.Error:
            continue
    return {name: sum(values) / max(1, len(values)) for name, values in found.items()}


def left() -> dict[str, float]:
    """Processes and open sockets of all that this process has started, and placement groups that hold something."""
    import ray

    processes = psutil.Process().children(recursive=True)
    sockets = 0
    for process in processes:
        try:
            sockets += len(process.net_connections("all"))
        except psutil.Error:
            continue
    groups = [each for each in ray.util.placement_group_table().values() if each["state"] != "REMOVED"]
    return dict(zip(LEFT, (len(processes), sockets, len(groups)), strict=True))


if __name__ == "__main__":
    main()
