"""The pages that people look at, in headless Chromium (Debian's; ``.ci/run`` installs it)."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from typing import Any

from tests.orchestrator.real import ROOT, wait_until

PATIENCE_MS = 120_000


@contextlib.contextmanager
def pages() -> Iterator[Any]:
    """A browser; its pages wait long for what they look for.

    Raises:
        AssertionError: there is no Chromium.
    """
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium") or shutil.which("chromium-browser")
    assert path, "Chromium is needed: apt-get install chromium"
    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=path, args=flags)
        context = browser.new_context(viewport={"width": 1600, "height": 1000})
        context.set_default_timeout(PATIENCE_MS)
        yield context
        browser.close()


@contextlib.contextmanager
def server() -> Iterator[str]:
    """The address of MLflow's UI over ORCHESTRATOR_HOME, as ``orchestrator ui`` starts it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "orchestrator", "ui", "--port", str(port)]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    address = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        assert process.poll() is None, f"orchestrator ui ended with code {process.returncode}"
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    try:
        wait_until(answers, address)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()
