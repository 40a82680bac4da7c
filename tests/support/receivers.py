"""Receivers of webhooks: a real HTTPS server in this process whose paths behave in different ways, and one of its own.

    python receivers.py PORT FOLDER [all|103]

receives with FOLDER/receiver.pem until it is killed. What comes is in FOLDER/came.jsonl before it is answered.
Some answers are errors, and some connections are closed without one; with `all` none is, with `103` no answer ends.
"""

from __future__ import annotations

import json
import os
import random
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import trustme

HOST = "hooks.example.test"
"""Whose certificate the receiver has, with localhost."""


class _Https(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, port: int, configure: Callable[[ssl.SSLContext], object], handler: type[_Handler]) -> None:
        super().__init__(("127.0.0.1", port), handler)
        configure(context := ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def handle_error(self, *_: object) -> None:
        """Say nothing: clients close connections here."""


class _Handler(BaseHTTPRequestHandler):
    def body(self) -> bytes:
        return self.rfile.read(int(self.headers["content-length"]))

    def log_message(self, *_: object) -> None:
        """Print nothing."""


class Receiver(_Https):
    """What came, in its order: path, headers and body; statuses: what to answer to a path and a
    `webhook-id`, 200 by default."""

    def __init__(self, authority: trustme.CA) -> None:
        super().__init__(0, authority.issue_cert(HOST, "localhost").configure_cert, _ByPath)
        self.came: list[tuple[str, dict[str, str], bytes]] = []
        self.statuses: dict[str, Callable[[str], int]] = {}
        self.release = threading.Event()  # of what hangs

    def url(self, path: str, host: str = HOST) -> str:
        return f"https://{host}:{self.server_address[1]}{path}"

    def ids(self, path: str) -> list[str]:
        return [headers["webhook-id"] for came, headers, _ in self.came if came == path]


class _ByPath(_Handler):
    server: Receiver

    def do_POST(self) -> None:
        self.server.came.append((self.path, {k.lower(): value for k, value in self.headers.items()}, self.body()))
        way = self.path.rpartition("/")[2]
        if way == "hangs":
            self.server.release.wait(60)
        with suppress(OSError):
            while way == "103":  # without end
                self.wfile.write(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 1000)
        if way == "closes":
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        status = self.server.statuses.get(self.path, lambda _: 200)(self.headers["webhook-id"])
        self.send_response(302 if way == "redirects" else status)
        self.send_header("Location", self.server.url("/ok"))
        self.end_headers()
        with suppress(OSError):
            for _ in range(1 << 20 if way == "floods" else 0):
                self.wfile.write(b"x" * (1 << 16))


@contextmanager
def receiving(folder: Path) -> Iterator[tuple[Receiver, Path]]:
    """Run a receiver; give it and the file of the authority that its certificate comes from."""
    authority, file = trustme.CA(), folder / "authority.pem"
    authority.cert_pem.write_to_path(str(file))
    with Receiver(authority) as receiver:
        thread = threading.Thread(target=receiver.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield receiver, file
        finally:
            receiver.release.set()
            receiver.shutdown()
            thread.join()


class _ByChance(_Handler):
    def do_POST(self) -> None:
        body, fate = self.body(), random.random()
        if len(body) < int(self.headers["content-length"]):
            return  # the sender was killed
        if fate > 0.02:
            came = [dict(self.headers.items()), body.decode()]
            os.write(CAME, (json.dumps(came) + "\n").encode())
        if fate > 0.04:
            self.send_response(500 if fate < 0.06 else 204)
            self.end_headers()


class _All(_Handler):
    def do_POST(self) -> None:
        came = [dict(self.headers.items()), self.body().decode(), time.time()]
        os.write(CAME, (json.dumps(came) + "\n").encode())
        self.send_response(204)
        self.end_headers()


class _Endless(_Handler):
    def do_POST(self) -> None:
        self.body()
        with suppress(OSError):
            while True:
                self.wfile.write(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 1000)


if __name__ == "__main__":
    HANDLERS = {"all": _All, "103": _Endless}
    FOLDER, HANDLER = Path(sys.argv[2]), HANDLERS.get("".join(sys.argv[3:]), _ByChance)
    CAME = os.open(FOLDER / "came.jsonl", os.O_APPEND | os.O_CREAT | os.O_WRONLY)
    _Https(int(sys.argv[1]), lambda of: of.load_cert_chain(FOLDER / "receiver.pem"), HANDLER).serve_forever()
