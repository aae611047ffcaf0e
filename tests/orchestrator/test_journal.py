from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.lock import Locked, holder
from orchestrator.tracking.journal import Entry, Journal, lock_path, read

EVENTS = [{"event": "metric", "name": "val/top1", "step": step, "value": step / 10, "time": 1.5} for step in range(6)]
WRITER = """
import sys
from pathlib import Path
from orchestrator.tracking.journal import Journal

journal = Journal(Path(sys.argv[1]))
print("open", flush=True)
while True:
    first = journal.seq
    journal.append([{"event": "metric", "n": first + k, "text": "x" * (first * 7 % 900)} for k in range(3)])
    print(journal.seq, flush=True)
"""


def written(path: Path, batches: int = 3) -> Path:
    journal = Journal(path)
    for start in range(0, 2 * batches, 2):
        journal.append(EVENTS[start : start + 2])
    journal.close()
    return path


def events(path: Path) -> list[dict]:
    return [entry.event for entry in read(path)]


def test_what_is_appended_is_read_back_and_numbered(tmp_path):
    path = written(tmp_path / "run" / "journal.jsonl")
    assert events(path) == EVENTS
    assert [entry.seq for entry in read(path)] == [1, 2, 3, 4, 5, 6]
    journal = Journal(path)
    assert journal.events == EVENTS
    journal.append([{"event": "end"}])
    assert journal.seq == 7
    journal.close()
    assert read(path)[-1].event == {"event": "end"}


def test_reading_goes_on_behind_an_entry(tmp_path):
    path = written(tmp_path / "journal.jsonl")
    third = read(path)[2]
    assert [entry.seq for entry in read(path, third)] == [4, 5, 6]
    assert read(path, Entry(6, path.stat().st_size, {})) == []


def test_a_file_cut_at_any_byte_keeps_its_whole_lines(tmp_path, caplog):
    path = written(tmp_path / "journal.jsonl")
    data = path.read_bytes()
    ends = [entry.end for entry in read(path)]
    for cut in sorted(
        {*range(0, len(data), 9), *ends[:-1], *(end - 1 for end in ends), *(end + 1 for end in ends[:-1])}
    ):
        path.write_bytes(data[:cut])
        whole = sum(end <= cut for end in ends)
        caplog.clear()
        journal = Journal(path)
        assert journal.events == EVENTS[:whole]
        assert ("cut short" in caplog.text) == (cut not in (0, *ends))
        journal.append([EVENTS[whole]])
        journal.close()
        assert events(path) == EVENTS[: whole + 1]


def test_a_flipped_bit_in_the_tail_is_cut_off_and_elsewhere_an_error_that_names_the_line(tmp_path):
    path = written(tmp_path / "journal.jsonl")
    data = path.read_bytes()
    ends = [0, *(entry.end for entry in read(path))]
    flips = random.Random(0)
    for line in range(1, 7):
        for at in flips.sample(range(ends[line - 1], ends[line] - 1), 10):
            path.write_bytes(data[:at] + bytes([data[at] ^ 1 << flips.randrange(7)]) + data[at + 1 :])
            if line == 6:
                journal = Journal(path)
                assert journal.events == EVENTS[:5]
                journal.close()
            else:
                with pytest.raises(ValueError, match=rf"line {line} is corrupt.*keep its first {line - 1} lines"):
                    Journal(path)
                assert holder(lock_path(path)) is None


def test_a_missing_line_is_noticed(tmp_path):
    path = written(tmp_path / "journal.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:2] + lines[3:]))
    with pytest.raises(ValueError, match="line 3 is corrupt"):
        read(path)


def test_a_second_writer_is_told_who_the_first_is(tmp_path):
    path = written(tmp_path / "journal.jsonl")
    journal = Journal(path)
    with pytest.raises(Locked, match=f"pid {os.getpid()} on"):
        Journal(path)
    other = subprocess.run([sys.executable, "-c", WRITER, str(path)], capture_output=True, text=True)
    assert f"pid {os.getpid()} on" in other.stderr
    assert other.returncode == 1
    journal.close()
    assert holder(lock_path(path)) is None
    assert events(path) == EVENTS


def test_an_event_that_cannot_be_written_leaves_nothing_behind(tmp_path):
    path = written(tmp_path / "journal.jsonl")
    journal = Journal(path)
    with pytest.raises(ValueError, match="Out of range float values"):
        journal.append([EVENTS[0], {"event": "metric", "value": float("nan")}])
    journal.append([{"event": "end"}])
    journal.close()
    assert events(path) == [*EVENTS, {"event": "end"}]


def test_a_full_disk_leaves_the_journal_whole(tmp_path):
    path = written(tmp_path / "journal.jsonl")
    program = f"""
import resource, signal
from pathlib import Path
from orchestrator.tracking.journal import Journal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
journal = Journal(Path({str(path)!r}))
resource.setrlimit(resource.RLIMIT_FSIZE, ({path.stat().st_size + 150}, -1))
try:
    journal.append([{{"event": "tag", "text": "x" * 400}}])
except OSError as error:
    print("refused")
resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))
journal.append([{{"event": "end"}}])
"""
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "refused\n"
    assert events(path) == [*EVENTS, {"event": "end"}]


def test_kill_9_in_the_middle_of_appends_loses_nothing_that_was_acknowledged(tmp_path):
    path = tmp_path / "journal.jsonl"
    draws = random.Random(0)
    acknowledged = 0
    for life in range(5):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "open\n"
            for _ in range(draws.randrange(1, 60)):
                acknowledged = int(writer.stdout.readline())
            assert len(read(path)) >= acknowledged  # while it is being written
            writer.send_signal(signal.SIGKILL)
            rest = writer.stdout.read().split()
        acknowledged = int(rest[-1]) if rest else acknowledged
        journal = Journal(path)
        assert journal.seq >= acknowledged > 0, life
        assert [event["n"] for event in journal.events] == list(range(journal.seq))
        journal.close()
