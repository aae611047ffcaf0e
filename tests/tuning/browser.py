"""The pages that people look at, in headless Chromium (Debian's; ``.ci/run`` installs it)."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections.abc import Iterator
from typing import Any

from tests.orchestrator.real import Command

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
def server(port: int = 0) -> Iterator[str]:
    """The address, with its token, that ``orchestrator ui`` prints over ORCHESTRATOR_HOME once it answers."""
    with Command("ui", "--port", str(port)) as command:
        yield command.wait_for(r"(http://127\.0\.0\.1:\d+/\?token=\S+)\n")[1]
        os.killpg(command.process.pid, signal.SIGTERM)
        command.end()
