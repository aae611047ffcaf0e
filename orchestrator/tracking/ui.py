"""MLflow's UI for one person: on loopback, which all users of a machine share, and so behind a token.

The address that is printed holds a token that works once and is exchanged for a cookie of the browser. Whatever comes
without the cookie is refused, and so is what another site sends, or a name that somebody else let point to 127.0.0.1.
"""

from __future__ import annotations

import hmac
import os
import re
import secrets
import socket
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

from orchestrator.home import home
from orchestrator.tracking.mlflow import connect
from orchestrator.tracking.uri import full_uri

if TYPE_CHECKING:
    from starlette.requests import HTTPConnection
    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

_HOST = re.compile(r"(127\.0\.0\.1|localhost)(:\d+)?")  # another port: one that ssh forwards
_NO_TOKEN = "This is somebody's MLflow. Open the address that orchestrator ui printed: it has a token.\n"
# A request that a page of another site caused lacks the cookie (SameSite=Strict); one that this page causes has it.
# MLflow's assistant would open by itself over a third of the first page; its button stays.
_AGAIN = f"""<script>
localStorage["mlflow.assistant.fab.autoOpenedOnFirstLoad_v1"] = "true"
location.replace("/?again" + location.hash)
</script><noscript>{_NO_TOKEN}</noscript>"""


class Gate:
    """An ASGI application that lets one through only what brings its cookie, or its token once.

    Args:
        app: what is behind it.
        port: of the server; browsers send cookies of 127.0.0.1 to all its ports, so each needs a name of its own.
        show: called with every new address that has a token.
    """

    def __init__(self, app: ASGIApp, port: int, show: Callable[[str], None]) -> None:
        self._app, self._port, self._show = app, port, show
        self._cookie, self._key = f"orchestrator-ui-{port}", secrets.token_urlsafe(32)
        self._token = ""

    def invite(self) -> None:
        """Make a token, in place of the one before, and show the address with it."""
        self._token = secrets.token_urlsafe(32)
        self._show(f"http://127.0.0.1:{self._port}/?token={self._token}")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        from starlette.requests import HTTPConnection
        from starlette.responses import HTMLResponse, PlainTextResponse

        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        asked = HTTPConnection(scope)
        ours, known = _ours(asked), _same(asked.cookies.get(self._cookie, ""), self._key)
        token = asked.query_params.get("token", "") if scope["path"] == "/" else ""
        if ours and known and not token:
            return await self._app(scope, receive, send)
        if scope["type"] == "websocket":
            return await send({"type": "websocket.close"})
        first = scope["path"] == "/" and not scope["query_string"]
        answer: Response = HTMLResponse(_AGAIN, 401) if first else PlainTextResponse(_NO_TOKEN, 401)
        if not ours:
            answer = PlainTextResponse("Another site sent this, or another name than 127.0.0.1 was used.\n", 403)
        elif known or _same(token, self._token):
            answer = HTMLResponse(_AGAIN)
            answer.set_cookie(self._cookie, self._key, httponly=True, samesite="strict")
            if not known:
                self.invite()
        answer.headers.update({"cache-control": "no-store", "referrer-policy": "no-referrer"})
        await answer(scope, receive, send)


def serve(uri: str, port: int, show: Callable[[str], None]) -> None:
    """Serve MLflow's UI over a store until the process is interrupted.

    Args:
        uri: of the tracking store, a database; its password comes from the environment.
        port: TCP port on loopback; 0 takes a free one.
        show: called with the address once the server answers, and with another one whenever that has been used.

    Raises:
        ValueError: the port is taken.
        orchestrator.tracking.mlflow.Unreachable: the store does not answer.
    """
    artifacts = home() / "artifacts"
    connect(uri, artifacts)
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError as error:
            raise ValueError(
                f"port {port} of 127.0.0.1 cannot be used ({error.strerror}); is orchestrator ui running already? "
                "Another port: orchestrator ui --port 5001"
            ) from None
        os.environ |= {
            "_MLFLOW_SERVER_FILE_STORE": full_uri(uri),
            "_MLFLOW_SERVER_REGISTRY_STORE": full_uri(uri),
            "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
            "_MLFLOW_SERVER_ARTIFACT_DESTINATION": artifacts.as_uri(),
            "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
            "_MLFLOW_SGI_NAME": "uvicorn",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        }
        os.chdir(home())
        import uvicorn

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Starlette, of what MLflow uses
            from mlflow.server.fastapi_app import app

        gate = Gate(app, listener.getsockname()[1], show)

        class Server(uvicorn.Server):
            async def startup(self, sockets: list[socket.socket] | None = None) -> None:
                await super().startup(sockets)
                if self.started:
                    gate.invite()

        config = uvicorn.Config(gate, log_level="warning", access_log=False, timeout_graceful_shutdown=2)
        Server(config).run([listener])


def _same(given: str, right: str) -> bool:
    return bool(right) and hmac.compare_digest(given.encode(), right.encode())


def _ours(asked: HTTPConnection) -> bool:
    """Whether a request is to this machine by its own name, and of no page but this server's."""
    host, origin = asked.headers.get("host", ""), asked.headers.get("origin")
    return _HOST.fullmatch(host) is not None and origin in (None, f"http://{host}")
