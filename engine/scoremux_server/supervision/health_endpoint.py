"""The HTTP endpoint of a watched server's health: `/healthz`, `/readyz` and `/metrics`."""

import contextlib
import json
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST

from scoremux_server.errors import SetupError
from scoremux_server.supervision.health import Health
from scoremux_server.triton.endpoints import ARITHMETIC_HEADER

_MOST_CONNECTIONS = 32
_NO_FILE_S = 0.1


class HealthEndpoint:
    """A context manager around an HTTP server on a thread of its own."""

    def __init__(
        self, health: Health, address: str, port: int, headers: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        """Listen. Every answer has the `headers`. Raises SetupError where the port is taken."""
        handler = type("Handler", (_Handler,), {"health": health, "more_headers": headers})
        try:
            self._server = _Server((address, port), handler)
        except OSError as error:
            raise SetupError(f"the watcher's port {port} on {address} cannot be used: {error}") from error
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True)

    def __enter__(self) -> "HealthEndpoint":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    """Keeps the newest connections: a client that holds connections or dribbles never keeps a probe out."""

    request_queue_size = 128

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self._newest: deque[socket.socket] = deque()
        super().__init__(address, handler)

    def get_request(self) -> tuple[Any, Any]:
        try:
            return super().get_request()
        except OSError:
            time.sleep(_NO_FILE_S)  # no file descriptor is free, and the connection goes on waiting for one
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        self._newest.append(request)
        if len(self._newest) > _MOST_CONNECTIONS:
            with contextlib.suppress(OSError):  # most have long been closed
                self._newest.popleft().shutdown(socket.SHUT_RDWR)
        super().process_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print no traceback for a client that went away."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    health: Health
    more_headers: Mapping[str, str]
    timeout = 5.0  # a client that sends nothing must not hold a thread
    server_version, sys_version = "scoremux", ""

    def do_GET(self) -> None:
        if self.path == "/readyz":
            self._answer_json(200 if self.health.ready else 503, self.health.body())
        elif self.path == "/healthz":
            self._answer_json(200 if self.health.alive else 503, {"alive": self.health.alive})
        elif self.path == "/metrics":
            self._answer(200, CONTENT_TYPE_LATEST, self.health.exposition())
        else:
            self._answer_json(404, {"error": "there are /healthz, /readyz and /metrics"})

    do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: there is a probe every second."""

    def _answer_json(self, status: int, body: Mapping[str, object]) -> None:
        self._answer(status, "application/json", json.dumps(body).encode())

    def _answer(self, status: int, kind: str, payload: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(payload)))
        for name, value in {**self.more_headers, ARITHMETIC_HEADER: self.health.arithmetic}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(payload)
