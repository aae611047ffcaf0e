"""``orchestrator ui``: what answers to whom."""

from __future__ import annotations

import http.client
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from orchestrator.home import default_uri
from orchestrator.runs import store
from orchestrator.tracking.mlflow import Shipper
from tests.orchestrator.real import Command, orchestrator
from tests.orchestrator.test_runs import run
from tests.strangers import as_stranger

pytestmark = pytest.mark.slow

PATHS = (
    *("/", "/?again", "/health", "/version", "/static-files/index.html", "/graphql", "/metrics", "/docs", "/signup"),
    *("/ajax-api/2.0/mlflow/experiments/search", "/api/2.0/mlflow/runs/search", "/ajax-api/3.0/mlflow/assistant/x"),
    *(
        "/v1/traces",
        "/gateway/x/mlflow/invocations",
        "/api/2.0/mlflow-artifacts/artifacts",
        "/model-versions/get-artifact",
    ),
)


class Browser:
    """One that keeps the cookie which it is given."""

    def __init__(self, port: int) -> None:
        self.port, self.cookie = port, ""

    def ask(self, path: str, method: str = "GET", headers: Mapping[str, str] | None = None) -> tuple[int, str]:
        """Status and text of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        sent = {"Cookie": self.cookie} if self.cookie else {}
        connection.request(method, path, headers=sent | dict(headers or {}))
        answer = connection.getresponse()
        self.cookie = (answer.getheader("Set-Cookie") or self.cookie).partition(";")[0]
        self.given = answer.getheader("Set-Cookie") or ""
        return answer.status, answer.read().decode()


@pytest.fixture
def ui(home: Path) -> Iterator[Command]:
    recorder = run("done", None)
    (recorder.folder / "note.txt").write_text("a note")
    recorder.artifact("note.txt")
    recorder.end("FINISHED")
    recorder.close()
    Shipper(recorder.folder).ship()
    with Command("ui", "--port", "0") as command:
        yield command


def test_only_a_browser_that_opened_the_address_gets_in(ui: Command) -> None:
    link = ui.wait_for(r"http://127\.0\.0\.1:(\d+)(/\?token=(\S+))\n")
    port, invitation, token = int(link[1]), link[2], link[3]
    _, run_id = Shipper(store.find("done")).target
    artifact = f"/get-artifact?path=note.txt&run_uuid={run_id}"
    stranger = Browser(port)
    for path in (*PATHS, artifact, "/?token=", "/?token=wrong", f"{artifact}&token={token}", "/health?token=x"):
        assert stranger.ask(path)[0] == 401, path
    assert stranger.ask("/graphql", "POST")[0] == 401
    assert stranger.ask(invitation, headers={"Host": "evil.example"})[0] == 403
    stranger.cookie = f"orchestrator-ui-{port}=wrong"
    assert stranger.ask(artifact)[0] == 401
    browser = Browser(port)
    status, page = browser.ask(invitation)
    assert status == 200 and "/?again" in page
    assert all(word in browser.given for word in ("HttpOnly", "SameSite=strict", "Path=/"))
    assert browser.ask(artifact) == (200, "a note") and browser.ask("/?again")[0] == 200
    for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Origin": "null"}):
        assert browser.ask(artifact, headers=headers)[0] == 403
    own = f"http://127.0.0.1:{port}"
    assert browser.ask(artifact, headers={"Origin": own})[0] == 200
    assert Browser(port).ask(invitation)[0] == 401, "an address works once"
    other = ui.wait_for(rf"(?s)token={token}.*(/\?token=\S+)\n")[1]
    assert Browser(port).ask(other)[0] == 200, "another browser has an address of its own"


def test_a_stranger_finds_no_token(ui: Command) -> None:
    link = ui.wait_for(r"http://127\.0\.0\.1:(\d+)/\?token=(\S+)\n")
    port, token, process = int(link[1]), link[2], Path(f"/proc/{ui.process.pid}")
    assert token not in (process / "cmdline").read_text() + (process / "environ").read_text()

    def look() -> None:
        assert Browser(port).ask("/ajax-api/2.0/mlflow/experiments/search")[0] == 401
        with pytest.raises(PermissionError):
            (process / "environ").read_text()

    as_stranger(look)


def test_a_port_that_is_taken_is_said_with_the_cure(home: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = orchestrator("ui", "--port", str(taken.getsockname()[1]))
    assert done.returncode == 2 and "Another port: orchestrator ui --port" in done.stderr
    assert "http://" not in done.stdout and os.path.exists(default_uri().removeprefix("sqlite:///"))
