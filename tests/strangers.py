"""Another user of the machine (nobody, 65534); where tests do not run as root there is none to be.

That user cannot read Python's own files where root has them: nothing may be imported for the first time.
"""

from __future__ import annotations

import contextlib
import os
import socket
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path

NOBODY = 65534


def as_stranger(look: Callable[[], None]) -> None:
    """Call ``look`` in a process of another user; what it finds wrong is printed there.

    Raises:
        AssertionError: it raised something.
    """
    if os.geteuid() != 0:
        return
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            look()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, "a stranger got in"


def readable(*tops: Path) -> list[Path]:
    """All from there down that this process can read, list or write."""
    found = []
    for path in _walk(tops):
        try:
            flags = os.R_OK | (os.X_OK if path.is_dir() else 0)
            opened = os.access(path, flags) or (os.access(path, os.W_OK) and not path.is_symlink())
        except PermissionError:
            continue
        found += [path] if opened else []
    return found


def _walk(tops: Iterable[Path]) -> Iterable[Path]:
    for top in tops:
        yield top
        for folder, names, files in os.walk(top):
            yield from (Path(folder, name) for name in [*names, *files])


def answers(port: int, path: str = "/") -> str:
    """The first line of what a port of loopback answers to an HTTP request, or gRPC (which Ray's token guards); empty
    where it says nothing."""
    with contextlib.suppress(OSError), socket.socket() as connection:
        connection.settimeout(8)
        connection.connect(("127.0.0.1", port))
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        said = connection.recv(200)
        return "gRPC" if said.startswith(b"\0\0") else said.decode("latin-1").partition("\r\n")[0]
    return ""
