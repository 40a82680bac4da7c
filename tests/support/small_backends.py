"""A backend that answers health and GET over HTTP with where it is: enough to see where a front door sends requests."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from doors import Place, bearer
from http_peers import running
from scoremux_server.endpoints import LOOPBACK


class _Handler(BaseHTTPRequestHandler):
    ready = 200

    def do_HEAD(self) -> None:
        self.send_response(self.ready)
        self.end_headers()

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(str(self.server.server_address[0]).encode())

    def log_message(self, format: str, *args: object) -> None: ...


@contextmanager
def small_backend(address: str = LOOPBACK, port: int = 0, ready: int = 200) -> Iterator[int]:
    """Yield the port of a backend at an address of loopback; ready: the status that it answers checks with."""
    with running(ThreadingHTTPServer((address, port), type("Handler", (_Handler,), {"ready": ready}))) as web:
        yield web.server_port


def ask(place: Place, token: str) -> tuple[int, str]:
    """Return status and body of a GET through the door: the body is the address of the backend that answered."""
    connection = http.client.HTTPSConnection("localhost", place.port, context=place.tls.context(), timeout=10)
    try:
        connection.request("GET", "/v2/health/live", headers=dict(bearer(token)))
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def until(true: Callable[[], bool], within_s: float = 5.0) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)
