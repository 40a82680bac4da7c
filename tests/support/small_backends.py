"""A backend that answers health and GET over HTTP with where it is: enough to see where a front door sends requests."""

import http.client
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from doors import MARKED, Place, bearer
from http_peers import running
from scoremux_server.front_door.config import Backend
from scoremux_server.front_door.door import FrontDoor
from scoremux_server.profile import LOOPBACK


class Watched(BaseHTTPRequestHandler):
    """What answers HAProxy's checks as a watcher does."""

    ready = 200
    headed: Mapping[str, str] = MARKED

    def do_HEAD(self) -> None:
        self.send_response(self.ready)
        for name, value in self.headed.items():
            self.send_header(name, value)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None: ...


class _Handler(Watched):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(str(self.server.server_address[0]).encode())


@contextmanager
def small_backend(
    address: str = LOOPBACK, port: int = 0, ready: int = 200, headers: Mapping[str, str] = MARKED
) -> Iterator[int]:
    """Yield the port of a backend at an address of loopback; ready, headers: what it answers checks with."""
    handler = type("Handler", (_Handler,), {"ready": ready, "headed": headers})
    with running(ThreadingHTTPServer((address, port), handler)) as web:
        yield web.server_port


def ask(place: Place, token: str) -> tuple[int, str]:
    """Return status and body of a GET through the door: the body is the address of the backend that answered."""
    connection = http.client.HTTPSConnection("localhost", place.port, context=place.tls.context(), timeout=60)
    try:
        connection.request("GET", "/v2/health/live", headers=dict(bearer(token)))
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


@contextmanager
def opened(folder: Path, **keys: Any) -> Iterator[tuple[Place, FrontDoor]]:
    """Yield an open door before one small backend; keys: more of door.toml."""
    with small_backend() as port:
        at = f"{LOOPBACK}:{port}"
        place = Place(folder, [Backend(name="small", grpc=at, http=at, ready=at)], **keys)
        with place.open() as door:
            yield place, door
