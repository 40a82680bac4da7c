"""The HTTP transport against real servers in this process that answer as a test wants them to."""

import contextlib
import gzip
import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import trustme

from http_peers import HttpPeer, running
from peers import ROW, once
from scoremux_client import (
    BusyError,
    DeadlineError,
    HttpTransport,
    RejectedError,
    Response,
    ScoringClient,
    Tls,
    TooLargeError,
    TransportError,
    UnavailableError,
    rows,
)
from scoremux_client.transports.connect import connect
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


def _hear(connection: socket.socket) -> None:
    with connection.makefile("rb") as request:
        length = 0
        while line := request.readline().strip():
            if line.lower().startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        request.read(length)


def _say_goodbye(connection: socket.socket) -> None:
    if isinstance(connection, ssl.SSLSocket):
        connection.setblocking(False)
        with contextlib.suppress(ssl.SSLError):
            connection.unwrap()  # sends close_notify; the client's own does not come
    connection.close()


def _hang_up(connection: socket.socket) -> None:
    connection.close()


def _reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@pytest.mark.parametrize(
    ("end", "pause"),
    # A reset without a pause would take with it an answer that was not read yet.
    [(_say_goodbye, False), (_hang_up, False), (_say_goodbye, True), (_hang_up, True), (_reset, True)],
)
@pytest.mark.parametrize("secure", [False, True])
def test_a_connection_that_ended_while_it_was_idle_is_replaced(
    authority: trustme.CA, roots: Path, end: Callable[[socket.socket], None], pause: bool, secure: bool
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    answers, answered, ended = 20, threading.Semaphore(0), threading.Semaphore(0)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for number in range(answers):
                connection, _ = listener.accept()
                if secure:
                    connection = context.wrap_socket(connection, server_side=True)
                _hear(connection)
                body = b'{"error": "heard you %d"}' % number
                connection.sendall(b"HTTP/1.1 400 x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
                if pause:
                    answered.acquire(timeout=60)
                    end(connection)
                    ended.release()
                else:  # while the next request is on its way
                    threading.Timer(0.0005, end, [connection]).start()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        url = f"{'https' if secure else 'http'}://127.0.0.1:{listener.getsockname()[1]}"
        with contextlib.closing(connect(url, tls=Tls(roots) if secure else None)) as transport:
            for number in range(answers):
                with pytest.raises(RejectedError, match=f"heard you {number}$"):
                    transport.submit(rows.encode(ROW), 60.0).result()
                if pause:
                    answered.release()
                    assert ended.acquire(timeout=60)
                    time.sleep(0.01)  # for it to arrive
        thread.join(60)
