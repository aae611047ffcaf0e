"""A real S3 server on loopback, and what it was asked."""

from __future__ import annotations

import logging
import re
import socket
from pathlib import Path
from typing import Any

BUCKET = "bucket"


class Storage(logging.Handler):
    """An S3 server (moto's), reached through the environment as any other would be; started when it is first used.

    Attributes:
        asked: method and path of every request, in order.
    """

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.asked: list[tuple[str, str]] = []
        self._server: Any = None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.environment = {
            "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{self._port}",
            "AWS_ACCESS_KEY_ID": "who",
            "AWS_SECRET_ACCESS_KEY": "planted-secret-key",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def start(self) -> None:
        """Be there, with one bucket."""
        if self._server is not None:
            return
        from moto.server import ThreadedMotoServer

        logger = logging.getLogger("werkzeug")
        logger.setLevel(logging.INFO)
        logger.propagate = False
        logger.addHandler(self)
        self._server = ThreadedMotoServer("127.0.0.1", self._port, verbose=False)
        self._server.start()
        self.fs.mkdir(BUCKET)

    def stop(self) -> None:
        """Be gone."""
        if self._server is not None:
            self._server.stop()
            logging.getLogger("werkzeug").removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Note a request, which the server logs."""
        if found := re.search(r'"?(?:\x1b\[\d+m)*(GET|PUT|HEAD|POST|DELETE) (\S+) HTTP', record.getMessage()):
            self.asked.append((found[1], found[2]))

    @property
    def fs(self) -> Any:
        """Its file system, without anything remembered."""
        import fsspec

        fs = fsspec.filesystem("s3")
        fs.invalidate_cache()
        return fs

    def put(self, folder: Path, name: str) -> str:
        """Copy all below a folder; its URL there."""
        target = f"{BUCKET}/{name}"
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.fs.pipe_file(f"{target}/{path.relative_to(folder).as_posix()}", path.read_bytes())
        return f"s3://{target}"

    def fetched(self, name: str) -> list[str]:
        """The objects below a name whose content was asked for, as often as it was; then forget what was asked."""
        asked, self.asked = self.asked, []
        return [path for method, path in asked if method == "GET" and path.startswith(f"/{BUCKET}/{name}")]
