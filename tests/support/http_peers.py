"""Peers on loopback that speak HTTP."""

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar

_Web = TypeVar("_Web", bound=ThreadingHTTPServer)


@contextmanager
def running(web: _Web) -> Iterator[_Web]:
    """Serve in a thread; nothing is left of it afterwards."""
    thread = threading.Thread(target=web.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield web
    finally:
        web.shutdown()
        thread.join()
        web.server_close()


class HttpPeer(ThreadingHTTPServer):
    """Answers every request with `reply`, (status, headers, body); remembers the requests' headers."""

    daemon_threads = True

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        if context is not None:
            # A handshake is its handler's: one that does not end holds up nobody else.
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.reply: tuple[int, dict[str, str], bytes] = (500, {}, b"")
        self.seen: list[dict[str, str]] = []
        self.hold = threading.Event()
        self.hold.set()
        self.gone = threading.Event()

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that hangs up is what some tests are about

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HttpPeer

    def do_POST(self) -> None:
        self.server.seen.append({name.lower(): value for name, value in self.headers.items()})
        self.rfile.read(int(self.headers["content-length"]))
        if not self.server.hold.is_set() and self.rfile.read(1) == b"":
            self.server.gone.set()
        status, headers, body = self.server.reply
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass
