"""What Ray's raylet starts in place of a worker: asks the fork server for one, or becomes one as Ray has it.

    python -I -S client.py SOCKET SETUP_WORKER WORKER ARGUMENT...

It imports next to nothing, so that it takes some milliseconds.
"""

import json
import os
import signal
import socket
import sys

_ANSWER_S = 40.0
"""How long the server may take, which imports first. A raylet waits 60 s for a worker, which this may become."""


def main() -> None:
    """Ask; where there is no copy to be had, become the worker."""
    path, *words = sys.argv[1:]
    try:
        folder = os.getcwd()
    except FileNotFoundError:  # somebody has removed where the driver was started
        folder = "/"
    request = {
        "words": words,
        "environment": dict(os.environ),
        "folder": folder,
        "blocked": [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, [])],
    }
    data = json.dumps(request).encode()
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.settimeout(_ANSWER_S)
            server.connect(path)
            socket.send_fds(server, [len(data).to_bytes(8, "big")], [0, 1, 2])
            server.sendall(data)
            if server.recv(1) == b"1":
                return
    except OSError:  # it has ended
        pass
    os.execv(sys.executable, [sys.executable, *words])


if __name__ == "__main__":
    main()
