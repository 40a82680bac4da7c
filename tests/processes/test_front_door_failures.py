"""What a real HAProxy says when no answer comes from behind it in time."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from doors import KEY, Place, needs_haproxy, statistics
from http_peers import running
from peers import listening
from scoremux_client import NO_RETRIES, DeadlineError, Response, ScoringClient
from scoremux_server.front_door import haproxy_config
from scoremux_server.front_door.config import DOOR_HEADER, I_KNOW, Backend, door_mark
from scoremux_server.profile import LOOPBACK
from scoremux_server.triton.endpoints import ARITHMETIC_HEADER
from small_backends import Watched, ask, small_backend
from waiting import until

pytestmark = needs_haproxy


@contextmanager
def silent(release: threading.Event) -> Iterator[Backend]:
    """A backend that is ready and answers no row before `release`."""

    class Handler(Watched):
        def do_POST(self) -> None:
            release.wait()

    def wait(_request: Any, _context: Any) -> Any:
        release.wait()

    with running(ThreadingHTTPServer((LOOPBACK, 0), Handler)) as web, listening(wait) as url:
        at = f"{LOOPBACK}:{web.server_port}"
        try:
            yield Backend(name="silent", grpc=url, http=at, ready=at)
        finally:
            release.set()


@pytest.mark.parametrize("scheme", ["grpcs", "https"])
def test_no_answer_in_time_is_said(tmp_path: Path, scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(haproxy_config, "ANSWER_S", 1)
    release = threading.Event()
    with silent(release) as backend:
        place = Place(tmp_path, [backend])
        keys = {"tls": place.tls, "token": place.everything, "retries": NO_RETRIES}
        with place.open(), ScoringClient(place.url(scheme), **keys) as client:
            with pytest.raises(DeadlineError, match="no Triton behind the front door answered within 300 s"):
                client.score([Response("t-1", "a")])
            release.set()


FLOAT32, INT8 = {ARITHMETIC_HEADER: "x86-f32"}, {ARITHMETIC_HEADER: "vnni-int8-bf16"}
SAFE, UNSAFE = ({DOOR_HEADER: door_mark(KEY, safe=safe)} for safe in (True, False))
BACKENDS: dict[str, tuple[int, dict[str, str]]] = {
    "safe": (200, {**SAFE, **FLOAT32}),
    "unsafe": (200, {**UNSAFE, **FLOAT32}),
    "int8": (200, {**SAFE, **INT8}),
    "other-key": (200, {DOOR_HEADER: door_mark(b"another key of at least 32 bytes", safe=True), **FLOAT32}),
    "no-grants": (200, FLOAT32),
    "without-content": (204, {**SAFE, **FLOAT32}),
    "not-ready": (503, {**SAFE, **FLOAT32}),
}
OPEN = {"address": "0.0.0.0"}


@pytest.mark.parametrize(
    ("keys", "ready"),
    [
        ({}, {"safe", "unsafe"}),
        ({"arithmetic": "any"}, {"safe", "unsafe", "int8"}),
        ({"arithmetic": "vnni-int8-bf16"}, {"int8"}),
        (OPEN, {"safe"}),
        ({**OPEN, "i_know": I_KNOW}, {"safe", "unsafe"}),
    ],
)
def test_only_a_ready_triton_with_this_keys_grants_and_arithmetic_gets_requests(
    tmp_path: Path, keys: dict[str, Any], ready: set[str]
) -> None:
    """A Triton that ignored the grant would score every task for every token."""
    with ExitStack() as stack:
        at = {
            name: f"{address}:{stack.enter_context(small_backend(address, ready=status, headers=headers))}"
            for number, (name, (status, headers)) in enumerate(BACKENDS.items(), 2)
            for address in [f"127.0.0.{number}"]
        }
        place = Place(tmp_path, [Backend(name=name, grpc=where, http=where, ready=where) for name, where in at.items()])
        place.configure(**keys)
        door = stack.enter_context(place.open())

        def up() -> set[str]:
            return {row["svname"] for row in statistics(door) if row["svname"] in at and row["status"] == "UP"}

        until(lambda: up() == ready, shown=up)  # all are taken for ready until they are asked the first time
        answering = {(200, at[name].partition(":")[0]) for name in ready}
        until(lambda: {ask(place, place.everything) for _ in range(8)} == answering)
        log = place.log.read_text()
        assert "it does not check grants of this door's key" in log
        assert ("its arithmetic is not" in log) == ("any" not in keys.values())
        assert any("only Tritons that compute in" in report for report in place.reports) == ("any" not in keys.values())
