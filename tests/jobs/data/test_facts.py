"""What is known of a shard is read by many threads at a time."""

from __future__ import annotations

import gc
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from jobs.data.shards.facts import Facts


def test_threads_read_it_together_whatever_the_garbage_collector_does_meanwhile(tmp_path: Path) -> None:
    """Python up to 3.11.7 breaks where it runs code of ours, and with it another thread, while ``ast`` parses."""
    path = tmp_path / "facts.npz"
    Facts.of([]).save(path, sha256="digest")
    interval, threshold = sys.getswitchinterval(), gc.get_threshold()

    def yields(phase: str, info: dict[str, int]) -> None:
        time.sleep(0)

    sys.setswitchinterval(1e-6)
    gc.set_threshold(7)
    gc.callbacks.append(yields)
    try:
        with ThreadPoolExecutor(8) as pool:
            for facts, more in pool.map(lambda _: Facts.load(path), range(600)):
                assert len(facts) == 0 and more["sha256"] == "digest"
    finally:
        gc.callbacks.remove(yields)
        gc.set_threshold(*threshold)
        sys.setswitchinterval(interval)
