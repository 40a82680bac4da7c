"""A door and Tritons as processes of their own: keys, stops, publishes under load, and a Triton that dies."""

import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from doors import Place, backend_of, needs_haproxy, statistics
from making import make_adapter
from peers import running
from scoremux_client import NO_RETRIES, Response, ScoringClient, UnavailableError
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.store.store import Store
from scoremux_server.profile import LOOPBACK
from serving import SCOREMUX, serving
from stands import Watched
from tritons import DEADLY_TO_ALL, MortalTriton
from waiting import until

pytestmark = needs_haproxy
PUBLISHES = 1000


def test_door_shares_tritons_key_and_stops_without_losing_rows(small_repository: Path, tmp_path: Path) -> None:
    rows = [Response("t-4", f"{number} " + "router packet " * 40) for number in range(2000)]
    place = Place(tmp_path)
    with serving(small_repository, tmp_path, f"grant_key_file={tmp_path}/grant.key") as server:
        place.backends = [backend_of(server.endpoints)]
        place.configure()
        one = place.tokens.add("one", ["t-1"], 0, 1)
        with place.log.open("wb") as log:
            door = subprocess.Popen([SCOREMUX, "front-door", str(place.file)], stdout=log, stderr=log)
        with ScoringClient(place.url("grpcs"), tls=place.tls, token=one) as client:
            scored = client.score([Response("t-1", "a router"), Response("t-2", "a router")])
        assert [one.status for one in scored] == ["OK", "FORBIDDEN_TASK"]
        keys = {"retries": NO_RETRIES, "chunk_rows": 500, "window": 4}
        with place.client("https", place.everything, **keys) as strict:
            strict.score(rows)  # opens its four connections
            going = strict.score_iter(rows)
            assert next(going).ok  # the other three requests are under way
            door.send_signal(signal.SIGUSR1)
            assert sum(one.ok for one in going) == len(rows) - 1
        assert door.wait(90) == 0
        (tmp_path / "other.key").write_bytes(b"another key of at least 32 bytes")
        place.configure(grant_key="other.key")
        with place.open(wait=False) as other:
            until(lambda: {row["status"] for row in statistics(other) if row["svname"] == "own"} == {"DOWN"})


@pytest.mark.nightly
def test_no_request_after_a_publish_is_answered_by_an_older_version(own_repository: Path, tmp_path: Path) -> None:
    backbone, store = Backbone.open(own_repository / "backbone" / "1"), Store(own_repository / "store")
    folders = [make_adapter(tmp_path / str(seed), backbone.spec, "t-1", seed=seed) for seed in range(4)]
    digests = [store.add([folder], backbone)[0].after for folder in folders]
    draw, row, place = random.Random(3), Response("t-1", "a router"), Place(tmp_path)
    live, ended = [digests[-1]], threading.Event()  # the last may be about to become live
    published = 0  # the place in `live` of the last version whose publish has returned

    def load(scheme: str) -> int:
        answers = 0
        with place.client(scheme, place.everything) as client:
            while not ended.is_set():
                since = published
                (scored,) = client.score([row])
                assert scored.version in live[since:]
                answers += 1
        return answers

    with serving(own_repository, tmp_path, f"grant_key_file={tmp_path}/grant.key") as server:
        place.backends = [backend_of(server.endpoints)]
        place.configure()
        with place.open(), ThreadPoolExecutor() as threads:
            loads = [threads.submit(load, scheme) for scheme in ("grpcs", "https")]
            key = place.everything
            with place.client("grpcs", key) as grpc, place.client("https", key) as http:
                try:
                    for number in range(PUBLISHES):
                        version = draw.choice([n for n, digest in enumerate(digests) if digest != live[-1]])
                        live.append(digests[version])
                        if number % 2:
                            store.rollback("t-1", digests[version])
                        else:
                            store.add([folders[version]], backbone)
                        published += 1
                        assert {c.score([row])[0].version for c in (grpc, http)} == {live[-1]}
                finally:
                    ended.set()
            assert min(one.result() for one in loads) > 0


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
        with place.client(scheme, place.everything, retries=NO_RETRIES) as client:
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
