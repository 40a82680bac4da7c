"""The HTTP transport against real servers in this process that answer as a test wants them to."""

from __future__ import annotations

import gzip
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from http_peers import HttpPeer, running
from peers import ROW, once
from scoremux_client import (
    BusyError,
    DeadlineError,
    HttpTransport,
    RejectedError,
    Response,
    ScoringClient,
    TooLargeError,
    TransportError,
    UnavailableError,
    rows,
)
from scoremux_client.transports.transport import MOST_ANSWER_BYTES


@pytest.fixture
def http() -> Iterator[HttpPeer]:
    with running(HttpPeer()) as peer:
        yield peer


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (400, "unexpected shape", RejectedError),
        (401, "no token", RejectedError),
        (404, "Request for unknown model: 'scorer' is not found", RejectedError),
        (404, "Request for unknown model: 'scorer' has no available versions", UnavailableError),
        (429, "slow down", BusyError),
        (500, "Stub process 'scorer_0_0' is not healthy.", UnavailableError),
        (503, "Exceeds maximum queue size", BusyError),
        (503, "9 rows wait already: send again in 2.5 s", BusyError),
        (503, "no server", UnavailableError),
        (504, "late", DeadlineError),
    ],
)
def test_an_http_status_becomes_our_error(http: HttpPeer, status: int, error: str, kind: type[TransportError]) -> None:
    http.reply = (status, {}, json.dumps({"error": error}).encode())
    with pytest.raises(TransportError, match=f"HTTP {status}: {error}") as caught:
        once(f"http://{http.address}")
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({}, b"secret"),
        ({}, b'{"outputs": "secret"}'),
        ({"Inference-Header-Content-Length": "9"}, b'{"outputs": "secret"}'),
        ({}, b'{"outputs": [{"name": "STATUS", "datatype": "FP32", "shape": [1], "data": ["secret"]}]}'),
    ],
)
def test_an_unreadable_http_body_is_refused_without_content(
    http: HttpPeer, headers: dict[str, str], body: bytes
) -> None:
    http.reply = (200, headers, body)
    with pytest.raises(RejectedError, match="cannot be read") as caught:
        once(f"http://{http.address}")
    assert "secret" not in f"{caught.value} {caught.value.__cause__}"


def test_packed_answer_is_not_unpacked(http: HttpPeer) -> None:
    http.reply = (200, {"Content-Encoding": "gzip"}, gzip.compress(b" " * (200 << 20)))
    with pytest.raises(RejectedError, match="cannot be read"):
        once(f"http://{http.address}")
    assert http.seen[0]["accept-encoding"] == "identity"


def test_answer_without_end_is_given_up(http: HttpPeer) -> None:
    http.reply = (200, {}, b" " * (MOST_ANSWER_BYTES + 1))
    with pytest.raises(TooLargeError, match=r"row 0: .* the answer is larger than max"):
        once(f"http://{http.address}")


def test_servers_words_are_shown_on_one_line_without_responses(http: HttpPeer) -> None:
    http.reply = (400, {}, json.dumps({"error": "no\x1b[2J\nway " + "x" * 9999}).encode())
    with pytest.raises(RejectedError, match=r"HTTP 400: no \[2J way x{300}") as caught:
        once(f"http://{http.address}")
    assert len(str(caught.value)) < 600
    http.reply = (400, {}, json.dumps({"error": "bad text: the dog ate it"}).encode())
    with ScoringClient(f"http://{http.address}") as client, pytest.raises(RejectedError, match="not shown") as caught:
        client.score([Response("t-1", "the dog ate it")])
    assert "dog" not in f"{caught.value} {caught.value.__cause__}"


def test_an_http_answer_that_is_cut_short_is_no_answer(http: HttpPeer) -> None:
    http.reply = (200, {"Content-Length": "1000", "Connection": "close"}, b'{"outp')
    with pytest.raises(UnavailableError):
        once(f"http://{http.address}")


@pytest.mark.parametrize("answer", ["HTTP/1.1 200 OK\r\nContent-Ty", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 20", ""])
def test_an_http_answer_that_breaks_off_before_its_body_is_no_answer(answer: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer.encode())

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(UnavailableError):
            once(f"http://127.0.0.1:{listener.getsockname()[1]}")
        thread.join()


def test_a_cancelled_http_request_is_hung_up(http: HttpPeer) -> None:
    http.hold.clear()
    with closing(HttpTransport(http.address)) as transport:
        future = transport.submit(rows.encode(ROW), None)
        while not http.seen:
            threading.Event().wait(0.01)
        future.cancel()
        assert http.gone.wait(60)


def test_an_http_deadline_ends_a_silent_request(http: HttpPeer) -> None:
    http.hold.clear()
    with pytest.raises(DeadlineError):
        once(f"http://{http.address}", timeout_s=0.2)


def test_headers_and_token_go_out_with_every_http_request(http: HttpPeer) -> None:
    http.reply = (401, {}, b"")
    with pytest.raises(RejectedError):
        once(f"http://{http.address}", token="abc", headers={"X-Course": "algebra"})
    assert http.seen[0]["authorization"] == "Bearer abc"
    assert http.seen[0]["x-course"] == "algebra"
