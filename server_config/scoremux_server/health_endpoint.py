"""Readiness that tells the truth: `/healthz`, `/readyz` and `/metrics` on a port of the watcher."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

from prometheus_client import CONTENT_TYPE_LATEST

from scoremux_server.errors import SetupError
from scoremux_server.health import Health
from scoremux_server.watch_metrics import exposition


class HealthEndpoint:
    """An HTTP server on a thread of its own; a context manager. Raises SetupError where the port is taken."""

    def __init__(self, health: Health, address: str, port: int) -> None:
        handler = type("Handler", (_Handler,), {"health": health})
        try:
            self._server = (_Six if ":" in address else ThreadingHTTPServer)((address, port), handler)
        except OSError as error:
            raise SetupError(f"the watcher's port {port} on {address} cannot be used: {error}") from error
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True)

    def __enter__(self) -> HealthEndpoint:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Six(ThreadingHTTPServer):
    address_family = socket.AF_INET6


class _Handler(BaseHTTPRequestHandler):
    health: Health
    timeout = 5.0  # a client that sends nothing must not hold a thread
    server_version, sys_version = "scoremux", ""

    def do_GET(self) -> None:
        if self.path == "/readyz":
            self._answer_json(200 if self.health.ready else 503, self.health.body())
        elif self.path == "/healthz":
            self._answer_json(200 if self.health.alive else 503, {"alive": self.health.alive})
        elif self.path == "/metrics":
            self._answer(200, CONTENT_TYPE_LATEST, exposition(self.health))
        else:
            self._answer_json(404, {"error": "there are /healthz, /readyz and /metrics"})

    do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: a probe a second is no news."""

    def _answer_json(self, status: int, body: Mapping[str, object]) -> None:
        self._answer(status, "application/json", json.dumps(body).encode())

    def _answer(self, status: int, kind: str, payload: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(payload)
