"""Ray's worker processes, forked from one that has imported already what they need.

A worker imports for three seconds of a core before it does anything, and a job needs four: two that train, Ray Train's
controller, and the recorder. Here one process imports, while Ray starts, and the others are copies of it, made in
milliseconds, which share its memory. The raylet starts ``client.py`` for each worker, which asks ``server.py`` for a
copy; where that is not possible it becomes the worker that Ray would have started.

Only for a cluster that this process starts, on Linux.
"""

from __future__ import annotations

import atexit
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

_ROOT = Path(__file__).parents[3]
_CLIENT = str(Path(__file__).parent / "client.py")
_WAITING, LASTING = 256, "--lasting"
_newest: ForkServer | None = None


class ForkServer:
    """The process that is copied, for one cluster. It ends with the raylet, and with this process.

    Attributes:
        path: of its socket.
        taken: whether a cluster has it.

    Args:
        folder: closed to other users; the socket is made there.
        lasting: the cluster is for many commands, so that all is imported that their processes ever need; otherwise
            what they need to start.
    """

    def __init__(self, folder: Path, lasting: bool) -> None:
        self.taken = False
        self._folder = tempfile.TemporaryDirectory(prefix="fork-", dir=folder)
        self.path = str(Path(self._folder.name) / "socket")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self.path)
            listener.listen(_WAITING)
            self._process = subprocess.Popen(
                [sys.executable, "-m", f"{__name__}.server", str(listener.fileno()), *[LASTING] * lasting],
                cwd=_ROOT,
                env={"OMP_NUM_THREADS": "1", **os.environ},  # libraries start no threads, which copies would lack
                stdin=subprocess.PIPE,  # its end says that this process has ended
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[listener.fileno()],
                start_new_session=True,
            )
        atexit.register(self.close)

    def close(self) -> None:
        """End it; its copies stay."""
        atexit.unregister(self.close)
        self._process.kill()
        self._process.wait()
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._folder.cleanup()


def start(folder: Path, lasting: bool = False) -> None:
    """Start the fork server of the next cluster, unless it is there, or processes cannot be forked safely.

    Args:
        folder: see :class:`ForkServer`.
        lasting: see :class:`ForkServer`.
    """
    global _newest
    if _newest is not None and _newest.taken:
        stop()
    if _newest is None and sys.platform == "linux":
        _newest = ForkServer(folder, lasting)


def stop() -> None:
    """End it, whose cluster did not start, or has ended."""
    global _newest
    if _newest is not None:
        _newest.close()
        _newest = None


def asked(words: list[str]) -> list[str]:
    """A command line of Ray; where it is a raylet's, its workers are copies, if there is a fork server."""
    import ray

    if _newest is None:
        return words
    setup = os.path.join(os.path.dirname(ray.__file__), "_private", "workers", "setup_worker.py")
    plain = "=" + subprocess.list2cmdline([sys.executable, setup])
    ours = "=" + subprocess.list2cmdline([sys.executable, "-I", "-S", _CLIENT, _newest.path, setup])
    changed = [word.replace(plain, ours, 1) if "_worker_command=" in word else word for word in words]
    _newest.taken |= changed != words
    return changed
