"""Readiness by the last canary: `/healthz`, `/readyz`, `/servez` and `/metrics` on a port of the watcher."""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType, TracebackType
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST

from scoremux_server.errors import SetupError
from scoremux_server.watch.health import Health
from scoremux_server.watch.watch_metrics import exposition

_MOST = 32
_LIFE_S = 5.0
_NO_FILE_S = 0.1


class HealthEndpoint:
    """An HTTP server on a thread of its own; a context manager. Raises SetupError where the port is taken.

    headers: of every answer.
    """

    def __init__(
        self, health: Health, address: str, port: int, headers: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        handler = type("Handler", (_Handler,), {"health": health, "more_headers": headers})
        try:
            self._server = (_Six if ":" in address else _Server)((address, port), handler)
        except OSError as error:
            raise SetupError(f"the watcher's port {port} on {address} cannot be used: {error}") from error
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


class _Server(ThreadingHTTPServer):
    """Has `_MOST` connections open, each for `_LIFE_S`; for one more it closes the oldest.

    The watcher needs files of its own; and who only holds connections keeps nobody out who asks and reads.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._open: dict[Any, float] = {}
        self._changed = threading.Condition()
        super().__init__(address, handler)

    def get_request(self) -> tuple[Any, Any]:
        try:
            return super().get_request()
        except OSError:
            time.sleep(_NO_FILE_S)  # no file is left for a connection, and it goes on waiting for one
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._changed:
            if len(self._open) >= _MOST:
                _end(next(iter(self._open)))
                self._changed.wait_for(lambda: len(self._open) < _MOST, 1.0)
            if len(self._open) >= _MOST:
                raise ConnectionAbortedError
            self._open[request] = time.monotonic()
        super().process_request(request, client_address)

    def service_actions(self) -> None:
        """Close what has been open for too long."""
        with self._changed:
            for request, since in self._open.items():
                if time.monotonic() - since > _LIFE_S:
                    _end(request)

    def close_request(self, request: Any) -> None:
        with self._changed:
            self._open.pop(request, None)
            self._changed.notify()
        super().close_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that went away."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _Six(_Server):
    address_family = socket.AF_INET6


def _end(request: socket.socket) -> None:
    with contextlib.suppress(OSError):
        request.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    health: Health
    more_headers: Mapping[str, str]
    timeout = 5.0  # a client that sends nothing must not hold a thread
    server_version, sys_version = "scoremux", ""

    def do_GET(self) -> None:
        if self.path == "/readyz":
            self._answer_json(200 if self.health.ready else 503, self.health.body())
        elif self.path == "/servez":
            self._answer_json(200 if self.health.serves else 503, {"serves": self.health.serves})
        elif self.path == "/healthz":
            self._answer_json(200 if self.health.alive else 503, {"alive": self.health.alive})
        elif self.path == "/metrics":
            self._answer(200, CONTENT_TYPE_LATEST, exposition(self.health))
        else:
            self._answer_json(404, {"error": "there are /healthz, /readyz, /servez and /metrics"})

    do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: a probe a second is no news."""

    def _answer_json(self, status: int, body: Mapping[str, object]) -> None:
        self._answer(status, "application/json", json.dumps(body).encode())

    def _answer(self, status: int, kind: str, payload: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(payload)))
        for name, value in self.more_headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(payload)
