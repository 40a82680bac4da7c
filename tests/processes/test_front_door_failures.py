"""What a real HAProxy says when no answer comes from behind it in time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from doors import KEY, MARKED, Place, needs_haproxy, statistics
from http_peers import running
from peers import listening
from scoremux_client import NO_RETRIES, DeadlineError, Response, ScoringClient
from scoremux_server.front_door import haproxy_config
from scoremux_server.front_door.config import DOOR_HEADER, I_KNOW, Backend, door_mark
from scoremux_server.front_door.door import FrontDoor
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


@pytest.mark.parametrize("status", [204, 302, 404, 503])
def test_only_a_backend_whose_check_is_answered_200_is_ready(tmp_path: Path, status: int) -> None:
    with small_backend() as good, small_backend("127.0.0.2", ready=status) as other:
        at = {"one": f"{LOOPBACK}:{good}", "other": f"127.0.0.2:{other}"}
        place = Place(tmp_path, [Backend(name=name, grpc=where, http=where, ready=where) for name, where in at.items()])
        with place.open():
            # Both are taken for ready until they are asked the first time.
            until(lambda: {ask(place, place.everything) for _ in range(8)} == {(200, LOOPBACK)})


@pytest.mark.parametrize(("wanted", "others"), [("x86-f32", False), ("any", True), ("vnni-int8-bf16", True)])
def test_of_several_tritons_only_those_of_the_doors_arithmetic_get_requests(
    tmp_path: Path, wanted: str, others: bool
) -> None:
    int8 = {**MARKED, ARITHMETIC_HEADER: "vnni-int8-bf16"}
    with small_backend() as float32, small_backend("127.0.0.2", headers=int8) as other:
        at = {"one": f"{LOOPBACK}:{float32}", "other": f"127.0.0.2:{other}"}
        backends = [Backend(name=name, grpc=where, http=where, ready=where) for name, where in at.items()]
        place = Place(tmp_path, backends, arithmetic=wanted)
        answering = {(200, LOOPBACK)} if wanted != "vnni-int8-bf16" else set()
        with place.open() as door:
            down = {"one": wanted == "vnni-int8-bf16", "other": not others}
            until(lambda: {r["svname"]: r["status"] == "DOWN" for r in statistics(door) if r["svname"] in at} == down)
            asked = {ask(place, place.everything) for _ in range(8)}
            assert asked == answering | ({(200, "127.0.0.2")} if others else set())
        assert any("only Tritons that compute in" in sentence for sentence in place.reports) == (wanted != "any")


@pytest.mark.parametrize(
    ("mark", "keys", "serves"),
    [
        (door_mark(KEY, safe=True), {}, True),
        (door_mark(KEY, safe=False), {}, True),
        (door_mark(b"another key of at least 32 bytes", safe=True), {}, False),
        ("", {}, False),
        (None, {}, False),
        (door_mark(KEY, safe=True), {"address": "0.0.0.0"}, True),
        (door_mark(KEY, safe=False), {"address": "0.0.0.0"}, False),
        (door_mark(KEY, safe=False), {"address": "0.0.0.0", "i_know": I_KNOW}, True),
    ],
)
def test_a_triton_that_checks_no_grants_or_is_unsafe_gets_no_requests(
    tmp_path: Path, mark: str | None, keys: dict[str, Any], serves: bool
) -> None:
    """A Triton that ignored the grant would score every task for every token."""
    with small_backend(headers={} if mark is None else {DOOR_HEADER: mark}) as port:
        at = f"{LOOPBACK}:{port}"
        place = Place(tmp_path, [Backend(name="far", grpc=at, http=at, ready=at)], **keys)
        with FrontDoor(place.file, place.log) as door:
            wanted = {"UP"} if serves else {"DOWN"}
            until(lambda: {row["status"] for row in statistics(door) if row["svname"] == "far"} == wanted)
            assert ask(place, place.everything)[0] == (200 if serves else 503)
