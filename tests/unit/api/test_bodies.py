"""Bodies that come slowly, or are many: they end, and hold up no other token."""

import http.client
import json
import resource
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import httpx
import pytest

from apis import KEY, grant, listening_api, row, score
from making import ROOT
from scoremux_desk.api import bodies
from scoremux_engine.scoring.permission import HEADER
from scoremux_server.front_door.access_tokens import AccessTokenFile

SLOW, OTHER = grant("slow"), grant("other")


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    tokens = AccessTokenFile(tmp_path / "tokens.json")
    for name in ("slow", "other"):
        tokens.add(name, ["*"], 0, 9)
    with listening_api(tmp_path, key=KEY, tokens=tokens.path) as address:
        yield address


def begin(address: str, path: str, length: int, body: bytes) -> socket.socket:
    host, _, port = address.partition(":")
    connection = socket.create_connection((host, int(port)), timeout=60)
    head = f"POST {path} HTTP/1.1\r\nhost: a\r\n{HEADER}: {SLOW[HEADER]}\r\ncontent-length: {length}\r\n\r\n"
    connection.sendall(head.encode() + body)
    return connection


def heard(connection: socket.socket) -> tuple[int, str]:
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    return answer.status, json.loads(answer.read())["title"]


def asking(address: str, headers: dict[str, str]) -> httpx.Client:
    return httpx.Client(base_url=f"http://{address}", headers=headers, timeout=60)


def test_a_slow_body_gets_408(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BODY_S", 0.5)
    began = time.monotonic()
    with closing(begin(address, "/v1/score", 1000, b'{"id":')) as connection:
        assert heard(connection) == (408, "Body too slow")
    assert 0.4 < time.monotonic() - began < 20


def test_requests_under_way_are_bounded_by_token(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "MOST_BODIES", 5)
    with ExitStack() as stack, asking(address, OTHER) as other, asking(address, SLOW) as slow:
        begun = [stack.enter_context(closing(begin(address, "/v1/score", 1000, b'{"id":'))) for _ in range(6)]
        (answered,), _, _ = select.select(begun, [], [], 60)  # the sixth is refused at once
        assert heard(answered) == (429, "Too much under way")
        refused = score(slow, row("a"))
        assert refused.json()["title"] == "Too much under way" and refused.headers["retry-after"] == "1"
        assert [slow.get(path).status_code for path in ("/v1/rows/t-1/a", "/v1/tasks", "/v1/tasks/t-1")] == [429] * 3
        assert score(other, row("a")).status_code == 200
        monkeypatch.setattr(bodies, "MOST_BODIES_IN_ALL", 5)
        assert score(other, row("a")).status_code == 503


def test_bytes_under_way_are_bounded_by_token(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "MOST_BYTES", 6 << 20)
    half = b" " * (4 << 20)
    with (
        closing(begin(address, "/v1/score", 8 << 20, half)) as first,
        closing(begin(address, "/v1/score", 8 << 20, half)) as second,
        asking(address, OTHER) as other,
    ):
        (answered,), _, _ = select.select([first, second], [], [], 60)
        assert heard(answered) == (429, "Too much under way")  # the other one waits for its rest
        large = [row(n, "x" * 8000) for n in range(500)]
        assert len(score(other, *large).json()["rows"]) == 500


def test_descriptors_are_raised_at_the_start() -> None:
    code = "import resource; from scoremux_desk.api.commands import _raise_descriptors as r; r(); "
    code += "print(*resource.getrlimit(resource.RLIMIT_NOFILE))"
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    limited = ["bash", "-c", f'ulimit -Sn 100; exec "$0" -c "{code}"', sys.executable]
    assert subprocess.run(limited, capture_output=True, text=True, check=True).stdout.split() == [str(most)] * 2


def test_page_has_the_limits() -> None:
    page = (ROOT / "desk/scoremux_desk/api/README.md").read_text(encoding="utf-8")
    for line in (
        f"| requests under way, but for `GET /v1/changes` | {bodies.MOST_BODIES} | {bodies.MOST_BODIES_IN_ALL} |",
        f"| {bodies.MOST_BYTES >> 20} MiB | {bodies.MOST_BYTES_IN_ALL >> 20} MiB |",
        f"| {bodies.BODY_S:g} s, and 1 s for each {bodies.LEAST_BYTES_PER_S >> 10} KiB;",
    ):
        assert line in page, line
