"""Tritons that die behind a real HAProxy: of a row, and of nothing the client did."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from doors import Place, backend_of, needs_haproxy
from http_peers import running
from scoremux_client import NO_RETRIES, Response, ScoringClient, UnavailableError
from scoremux_server.profile import LOOPBACK
from small_backends import Watched
from tritons import DEADLY_TO_ALL, MortalTriton

pytestmark = needs_haproxy
SCHEMES = pytest.mark.parametrize("scheme", ["grpcs", "https"])
NONE_READY = "no Triton behind the front door is ready"


def readiness(triton: MortalTriton) -> ThreadingHTTPServer:
    """What answers HAProxy as a watcher does."""

    class Handler(Watched):
        @property
        def ready(self) -> int:
            return 200 if triton.ready else 503

    return ThreadingHTTPServer((LOOPBACK, triton.endpoints.watch), Handler)


@contextmanager
def behind_a_door(folder: Path, count: int) -> Iterator[tuple[Place, list[MortalTriton]]]:
    with ExitStack() as stack:
        tritons = [stack.enter_context(MortalTriton()) for _ in range(count)]
        for triton in tritons:
            stack.enter_context(running(readiness(triton)))
        backends = [backend_of(triton.endpoints, f"triton-{i}") for i, triton in enumerate(tritons)]
        place = Place(folder, backends)
        stack.enter_context(place.open())
        yield place, tritons


@SCHEMES
def test_that_a_triton_died_and_that_none_is_left_is_said(tmp_path: Path, scheme: str) -> None:
    with behind_a_door(tmp_path, 1) as (place, _):
        keys = {"tls": place.tls, "token": place.everything, "retries": NO_RETRIES}
        with ScoringClient(place.url(scheme), **keys) as client:
            with pytest.raises(UnavailableError, match="a Triton behind the front door died with the request"):
                client.score([Response("t-1", DEADLY_TO_ALL)])
            said, until = "", time.monotonic() + 120
            # A request that HAProxy was just passing on when Triton died is refused by HTTP/2 itself.
            while NONE_READY not in said and time.monotonic() < until:
                with pytest.raises(UnavailableError) as refused:
                    client.score([Response("t-1", "1")])
                said = str(refused.value)
            assert NONE_READY in said
        assert DEADLY_TO_ALL not in place.log.read_text()
