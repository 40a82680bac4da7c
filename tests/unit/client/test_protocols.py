"""Requests and answers over gRPC and over HTTP: as the contract says, and every failure as an error of ours."""

import contextlib
import gzip
import json
import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme

from peers import ROW, HttpPeer, aborting, answer, listening, once, running
from scoremux_client import (
    BusyError,
    DeadlineError,
    GrpcTransport,
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


def test_a_request_goes_out_as_the_contract_says_and_its_answer_comes_back() -> None:
    seen: list[Any] = []

    def handler(request: Any, context: grpc.ServicerContext) -> Any:
        seen.append(request)
        return answer(request, context)

    with listening(handler) as url, ScoringClient(url) as client:
        first, _ = client.score([Response("t-1", "ä\0", "r1"), Response("t-1", "")])
    assert (first.level, first.score, first.tokens, first.truncated, first.id) == (3, 0.75, 9, True, "r1")
    assert seen[0].model_name == "scorer"
    assert seen[0].parameters["deadline_ms"].int64_param == 120_000 and "batch" not in seen[0].parameters
    assert [(i.name, i.datatype, list(i.shape)) for i in seen[0].inputs] == [
        ("TEXT", "BYTES", [2, 1]),
        ("TASK", "BYTES", [2, 1]),
    ]
    with listening(handler) as url, ScoringClient(url, timeout_s=None, batch=True) as client:
        client.score([Response("t-1", "")])
    assert seen[1].parameters["batch"].bool_param is True and "deadline_ms" not in seen[1].parameters


@pytest.mark.parametrize(
    ("code", "message", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, "so it is", UnavailableError),
        (grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size", BusyError),
        (grpc.StatusCode.UNAVAILABLE, "9 rows wait already: send again in 2.5 s", BusyError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "too many requests", BusyError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "Received message larger than max", TooLargeError),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "so it is", DeadlineError),
        (grpc.StatusCode.INVALID_ARGUMENT, "so it is", RejectedError),
        (grpc.StatusCode.UNAUTHENTICATED, "so it is", RejectedError),
        (grpc.StatusCode.INTERNAL, "so it is", RejectedError),
        (grpc.StatusCode.INTERNAL, "Stub process 'scorer_0_0' is not healthy.", UnavailableError),
        (grpc.StatusCode.UNAVAILABLE, "a Triton behind the front door died with the request, or", UnavailableError),
        (grpc.StatusCode.UNAVAILABLE, "no Triton behind the front door is ready: send again later", UnavailableError),
        (grpc.StatusCode.NOT_FOUND, "Request for unknown model: 'scorer' has no available versions", UnavailableError),
        (grpc.StatusCode.NOT_FOUND, "Request for unknown model: 'scorer' is not found", RejectedError),
    ],
)
def test_a_grpc_status_becomes_our_error(code: grpc.StatusCode, message: str, kind: type[TransportError]) -> None:
    with listening(aborting(code, message)) as url:
        with pytest.raises(TransportError, match=rf"row 0: {url}: {message}") as caught:
            once(url)
        assert type(caught.value) is kind
        assert caught.value.__cause__ is not None


def test_an_answer_that_cannot_be_read_is_refused_without_its_content() -> None:
    def handler(request: Any, context: grpc.ServicerContext) -> Any:
        response = answer(request, context)
        response.raw_output_contents[0] = b"secret"
        return response

    with listening(handler) as url:
        with pytest.raises(RejectedError, match="an answer that cannot be read") as caught:
            once(url)
        assert "secret" not in str(caught.value)


def test_a_cancelled_future_takes_its_request_with_it() -> None:
    arrived, gone = threading.Event(), threading.Event()

    def handler(request: Any, context: grpc.ServicerContext) -> Any:
        context.add_callback(gone.set)
        arrived.set()
        gone.wait(60)
        return answer(request, context)

    with listening(handler) as url, closing(GrpcTransport(url)) as transport:
        future = transport.submit(rows.encode(ROW), None)
        assert arrived.wait(60)
        assert not gone.is_set()
        future.cancel()
        assert gone.wait(60)


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
    ("headers", "body", "kind", "sentence"),
    [
        ({}, b"secret", RejectedError, "cannot be read"),
        ({}, b'{"outputs": "secret"}', RejectedError, "cannot be read"),
        ({"Inference-Header-Content-Length": "9"}, b'{"outputs": "secret"}', RejectedError, "cannot be read"),
        (
            {},
            b'{"outputs": [{"name": "STATUS", "datatype": "FP32", "shape": [1], "data": ["secret"]}]}',
            RejectedError,
            "cannot be read",
        ),
        ({"Content-Encoding": "gzip"}, gzip.compress(b" " * (200 << 20)), RejectedError, "cannot be read"),
        ({}, b" " * (MOST_ANSWER_BYTES + 1), TooLargeError, r"row 0: .* the answer is larger than max"),
        ({"Content-Length": "1000", "Connection": "close"}, b'{"outp', UnavailableError, ""),
    ],
    ids=range(7),
)
def test_an_unreadable_http_body_is_refused_without_content(
    http: HttpPeer, headers: dict[str, str], body: bytes, kind: type[TransportError], sentence: str
) -> None:
    http.reply = (200, headers, body)
    with pytest.raises(kind) as caught:
        once(f"http://{http.address}")
    assert re.search(sentence, str(caught.value)) and "secret" not in f"{caught.value} {caught.value.__cause__}"
    assert http.seen[0]["accept-encoding"] == "identity"


def test_a_cancelled_or_late_http_request_is_hung_up(http: HttpPeer) -> None:
    http.hold.clear()
    with closing(HttpTransport(http.address)) as transport:
        future = transport.submit(rows.encode(ROW), None)
        while not http.seen:
            threading.Event().wait(0.01)
        future.cancel()
        assert http.gone.wait(60)
    with pytest.raises(DeadlineError):
        once(f"http://{http.address}", timeout_s=0.2)


def test_headers_and_token_go_out_and_the_servers_words_are_shown_on_one_line_without_responses(http: HttpPeer) -> None:
    http.reply = (401, {}, b"")
    with pytest.raises(RejectedError):
        once(f"http://{http.address}", token="abc", headers={"X-Course": "algebra"})
    assert http.seen[0]["authorization"] == "Bearer abc"
    assert http.seen[0]["x-course"] == "algebra"
    http.reply = (400, {}, json.dumps({"error": "no\x1b[2J\nway " + "x" * 9999}).encode())
    with pytest.raises(RejectedError, match=r"HTTP 400: no \[2J way x{300}") as caught:
        once(f"http://{http.address}")
    assert len(str(caught.value)) < 600
    http.reply = (400, {}, json.dumps({"error": "bad text: the dog ate it"}).encode())
    with ScoringClient(f"http://{http.address}") as client, pytest.raises(RejectedError, match="not shown") as caught:
        client.score([Response("t-1", "the dog ate it")])
    assert "dog" not in f"{caught.value} {caught.value.__cause__}"


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
