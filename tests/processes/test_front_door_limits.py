"""What tokens, connections and addresses may have at a real HAProxy: the rest waits or is refused."""

import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2

from doors import Place, bearer, needs_haproxy
from peers import answer, listening
from scoremux_client import NO_RETRIES, Response, ScoringClient
from scoremux_server.front_door.config import Backend
from scoremux_server.front_door.haproxy_config import STREAMS
from stands import Stand, head, message, rows, send, small_backend, stand

pytestmark = needs_haproxy
PERIOD_S = 9
SLOW = [f"slow-{number}" for number in range(20)]
"""Tokens to try in turn until a machine has sent a token's requests within the period that its rate is counted over."""


def test_a_rate_counts_requests_over_ten_seconds(tmp_path: Path) -> None:
    with stand(tmp_path, {**dict.fromkeys(SLOW, 1), "other": 1, "free": 0}) as made:
        for slow in SLOW:
            began, before = time.monotonic(), len(made.web.requests)
            answers = [made.post(slow, rows(["t-1"] * 50)) for _ in range(14)]
            code, _ = send(made, message([b"t-1"]).SerializeToString(), slow)
            if time.monotonic() - began < PERIOD_S:
                break
        assert Counter(status for status, _ in answers) == {200: 10, 429: 4}
        assert "the rate of 1 requests a second is used up: send again later" in answers[-1][1]
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert len(made.web.requests) - before == 10
        assert made.post("other", rows(["t-1"]))[0] == 200  # each token has a rate of its own
        assert {made.post("free", rows(["t-1"]))[0] for _ in range(30)} == {200}


@pytest.mark.nightly
def test_requests_that_are_refused_use_up_no_rate(tmp_path: Path) -> None:
    with stand(tmp_path, {"slow": 1}) as made:
        for _ in range(12):
            assert made.post("slow", rows(["t-1"]), content_encoding="gzip")[0] == 415
        assert made.post("slow", rows(["t-1"]))[0] == 200


def test_bodies_that_come_late_do_not_pass_a_rate(tmp_path: Path) -> None:
    body = rows(["t-1"])
    with stand(tmp_path, dict.fromkeys(SLOW, 1)) as made:
        for slow in SLOW:
            connections = [made.place.connect() for _ in range(20)]
            began = time.monotonic()
            for connection in connections:
                connection.sendall(head(made.tokens[slow], more=f"content-length: {len(body)}\r\n"))
            time.sleep(0.5)
            answers = []
            for connection in connections:
                connection.sendall(body)
                answers.append(connection.recv(4096).split(b" ")[1])
                connection.close()
            if time.monotonic() - began < PERIOD_S:
                break
        assert Counter(answers) == {b"200": 10, b"429": 10}


def test_a_clients_further_requests_wait(tmp_path: Path) -> None:
    lock, full, under_way, most = threading.Lock(), threading.Event(), 0, 0

    def slow(request: Any, context: Any) -> Any:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
            if most == STREAMS:
                full.set()
        full.wait(60)
        time.sleep(0.02)  # time for more than there may be
        with lock:
            under_way -= 1
        return answer(request, context)

    with listening(slow, threads=32) as url, small_backend() as port:
        place = Place(tmp_path, [Backend(name="peer", grpc=url, http=url, ready=f"127.0.0.1:{port}")])
        keys = {"tls": place.tls, "token": place.everything, "retries": NO_RETRIES}
        with place.open(), ScoringClient(place.url("grpcs"), chunk_rows=1, window=16, **keys) as client:
            scored = client.score([Response("t-1", str(number)) for number in range(60)])
    assert [one.level for one in scored] == list(range(60))
    assert most == STREAMS


def test_request_of_a_client_that_hangs_up_is_cancelled(tmp_path: Path) -> None:
    came, ended = threading.Event(), threading.Event()

    def slow(_request: Any, context: Any) -> Any:
        context.add_callback(ended.set)
        came.set()
        ended.wait(60)
        return service_pb2.ModelInferResponse()

    with listening(slow, threads=2) as url, small_backend() as port:
        place = Place(tmp_path, [Backend(name="peer", grpc=url, http=url, ready=f"127.0.0.1:{port}")])
        with place.open():
            roots = grpc.ssl_channel_credentials((tmp_path / "ca.pem").read_bytes())
            with grpc.secure_channel(f"localhost:{place.port}", roots) as channel:
                call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer", lambda b: b, lambda b: b)
                headers = list(bearer(place.everything).items())
                asked = call.future(message([b"t-1"]).SerializeToString(), metadata=headers)
                assert came.wait(60) and not asked.done()
            assert ended.wait(30)


HALF_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
FLOODS, EACH = [f"127.0.0.{number}" for number in range(2, 7)], 250


def half_handshake(port: int, source: str) -> socket.socket | None:
    try:
        connection = socket.create_connection(("127.0.0.1", port), timeout=2, source_address=(source, 0))
        connection.sendall(HALF_HELLO)
        connection.setblocking(False)
    except OSError:
        return None
    return connection


def is_closed(connection: socket.socket) -> bool:
    try:
        return not connection.recv(100)
    except BlockingIOError:
        return False
    except OSError:
        return True


def flood(port: int, source: str, full: threading.Event, stop: threading.Event) -> None:
    """Keep `EACH` half handshakes open, or try to, until `stop`."""
    held: list[socket.socket] = []
    while not stop.is_set():
        for connection in [one for one in held if is_closed(one)]:
            held.remove(connection)
            connection.close()
        made = (half_handshake(port, source) for _ in range(EACH - len(held)) if not stop.is_set())
        held += [connection for connection in made if connection]
        full.set()
        stop.wait(0.1)
    for connection in held:
        connection.close()


@contextmanager
def flooded(port: int) -> Iterator[None]:
    stop, full = threading.Event(), [threading.Event() for _ in FLOODS]
    threads = [
        threading.Thread(target=flood, args=(port, source, one, stop)) for source, one in zip(FLOODS, full, strict=True)
    ]
    try:
        for thread in threads:
            thread.start()
        for one in full:
            assert one.wait(120)
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def answer_s(shared: Stand, source: str) -> float:
    """Return how long a new connection and an answer take."""
    started = time.monotonic()
    with shared.place.connect(source=source) as connection:
        connection.sendall(head(shared.tokens["everything"], "GET", "/v2/health/live"))
        assert connection.recv(4096).startswith(b"HTTP/1.1 200")
    return time.monotonic() - started


@pytest.mark.parametrize("limits", [(1024, 256), (50, 25)], ids=["default", "chart"])
def test_sixth_address_is_answered_beside_five_floods(tmp_path: Path, limits: tuple[int, int]) -> None:
    # With hours for a handshake, its timeout alone helps nobody.
    keys = {"connections": limits[0], "connections_per_address": limits[1], "client_s": 7200}
    with stand(tmp_path, **keys) as shared, flooded(shared.place.port):
        took = [answer_s(shared, "127.0.0.7") for _ in range(5)]
        print(f"answered after {max(took):.2f} s")
        assert max(took) < 60


def test_strangers_leave_a_quarter_of_the_connections_to_addresses_that_have_shown_a_token(tmp_path: Path) -> None:
    with stand(tmp_path, connections=40, connections_per_address=20, client_s=7200) as shared, ExitStack() as stack:
        answer_s(shared, "127.0.0.7")
        for number in range(20, 35):  # two each: few
            for _ in range(2):
                stack.enter_context(shared.place.connect(source=f"127.0.0.{number}"))
        with pytest.raises(OSError):
            shared.place.connect(source="127.0.0.99")
        for _ in range(2):
            stack.enter_context(shared.place.connect(source="127.0.0.7"))


def test_all_connections_may_be_those_of_a_balancer(tmp_path: Path) -> None:
    with stand(tmp_path, connections=24, connections_per_address=24) as shared, ExitStack() as stack:
        answer_s(shared, "127.0.0.7")
        for _ in range(23):
            stack.enter_context(shared.place.connect(source="127.0.0.7"))
