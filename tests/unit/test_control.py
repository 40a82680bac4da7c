"""The watcher's calls to Triton: whether the server that answers is its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from scoremux_server.command_line import KEY_HEADER
from scoremux_server.control import Control


@contextmanager
def triton(key: str | None) -> Iterator[tuple[str, list[str]]]:
    """Answer as a Triton that takes this key, or no key at all; yield its address and the keys it was shown."""
    shown: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            given = self.headers.get(KEY_HEADER, "")
            shown.append(given)
            self.send_response(200 if key in (None, given) else 403)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", shown
        server.shutdown()


@pytest.mark.parametrize(("key", "ours"), [("mine", True), ("another", False), (None, False)])
def test_its_own_triton_is_the_one_that_takes_its_key_alone(key: str | None, ours: bool) -> None:
    with triton(key) as (url, shown):
        assert Control(url, "mine").is_ours(5.0) is ours
        assert shown == (["", "mine"] if key else [""])


def test_nobody_is_not_ones_own() -> None:
    with triton("mine") as (url, _):
        pass
    assert not Control(url, "mine").is_ours(1.0)
