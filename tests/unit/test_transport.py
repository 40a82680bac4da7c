"""The transports against real servers in this process that answer as a test wants them to."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme

from peers import aborting, answer, listening
from scoremux_client import (
    NO_RETRIES,
    BusyError,
    DeadlineError,
    GrpcTransport,
    HttpTransport,
    InputError,
    RejectedError,
    Response,
    ScoringClient,
    ServerDiedError,
    ServerDownError,
    Tls,
    TooLargeError,
    TransportError,
    UnavailableError,
    rows,
)
from scoremux_client.transport import connect

ROW = [Response("t-1", "text")]


def once(url: str, **options: Any) -> list[Any]:
    with ScoringClient(url, retries=NO_RETRIES, **options) as client:
        return client.score(ROW)


def test_a_request_goes_out_as_the_contract_says_and_its_answer_comes_back() -> None:
    seen: list[Any] = []

    def handler(request: Any, context: grpc.ServicerContext) -> Any:
        seen.append(request)
        return answer(request, context)

    with listening(handler) as url, ScoringClient(url) as client:
        first, _ = client.score([Response("t-1", "ä\0", "r1"), Response("t-1", "")])
    assert (first.level, first.score, first.tokens, first.truncated, first.id) == (3, 0.75, 9, True, "r1")
    assert seen[0].model_name == "scorer"
    assert [(i.name, i.datatype, list(i.shape)) for i in seen[0].inputs] == [
        ("TEXT", "BYTES", [2, 1]),
        ("TASK", "BYTES", [2, 1]),
    ]


@pytest.mark.parametrize(
    ("code", "message", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, "so it is", UnavailableError),
        (grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size", BusyError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "too many requests", BusyError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "Received message larger than max", TooLargeError),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "so it is", DeadlineError),
        (grpc.StatusCode.INVALID_ARGUMENT, "so it is", RejectedError),
        (grpc.StatusCode.UNAUTHENTICATED, "so it is", RejectedError),
        (grpc.StatusCode.INTERNAL, "so it is", RejectedError),
        (grpc.StatusCode.INTERNAL, "Stub process 'scorer_0_0' is not healthy.", ServerDiedError),
        (grpc.StatusCode.NOT_FOUND, "Request for unknown model: 'scorer' has no available versions", UnavailableError),
        (grpc.StatusCode.NOT_FOUND, "Request for unknown model: 'scorer' is not found", RejectedError),
    ],
)
def test_a_grpc_status_becomes_an_error_of_ours(
    code: grpc.StatusCode, message: str, kind: type[TransportError]
) -> None:
    with listening(aborting(code, message)) as url:
        with pytest.raises(TransportError, match=rf"row 0: {url}: {message}") as caught:
            once(url)
        assert type(caught.value) is kind
        assert caught.value.__cause__ is not None


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_where_no_server_listens_is_said(scheme: str) -> None:
    with listening(answer) as url:
        pass
    with pytest.raises(ServerDownError, match=url):
        once(f"{scheme}://{url}")


def test_a_deadline_that_passes_is_told_from_a_refusal() -> None:
    release = threading.Event()

    def handler(request: Any, context: grpc.ServicerContext) -> Any:
        release.wait()
        return answer(request, context)

    with listening(handler) as url:
        try:
            with pytest.raises(DeadlineError):
                once(url, timeout_s=0.2)
        finally:
            release.set()


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
        gone.wait(10)
        return answer(request, context)

    with listening(handler) as url, GrpcTransport(url) as transport:
        future = transport.submit(rows.encode(ROW), None)
        assert arrived.wait(10)
        assert not gone.is_set()
        future.cancel()
        assert gone.wait(10)


@pytest.mark.parametrize("kind", [GrpcTransport, HttpTransport])
def test_a_closed_transport_says_so(kind: type[GrpcTransport | HttpTransport]) -> None:
    transport = kind("127.0.0.1:9")
    transport.close()
    with pytest.raises(RejectedError, match="closed"):
        transport.submit(rows.encode(ROW), 1.0).result(5)


class HttpPeer(ThreadingHTTPServer):
    """Answers every request with `reply`, (status, headers, body); remembers the requests' headers."""

    daemon_threads = True

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self.reply: tuple[int, dict[str, str], bytes] = (500, {}, b"")
        self.seen: list[dict[str, str]] = []
        self.hold = threading.Event()
        self.hold.set()
        self.gone = threading.Event()

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that hangs up is what some tests are about

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HttpPeer

    def do_POST(self) -> None:
        self.server.seen.append({name.lower(): value for name, value in self.headers.items()})
        self.rfile.read(int(self.headers["content-length"]))
        if not self.server.hold.is_set() and self.rfile.read(1) == b"":
            self.server.gone.set()
        status, headers, body = self.server.reply
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def http() -> Iterator[HttpPeer]:
    with HttpPeer() as peer:
        threading.Thread(target=peer.serve_forever, args=(0.01,), daemon=True).start()
        yield peer
        peer.shutdown()


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (400, "unexpected shape", RejectedError),
        (401, "no token", RejectedError),
        (404, "Request for unknown model: 'scorer' is not found", RejectedError),
        (404, "Request for unknown model: 'scorer' has no available versions", UnavailableError),
        (429, "slow down", BusyError),
        (500, "Stub process 'scorer_0_0' is not healthy.", ServerDiedError),
        (503, "Exceeds maximum queue size", BusyError),
        (503, "no server", UnavailableError),
        (504, "late", DeadlineError),
    ],
)
def test_an_http_status_becomes_an_error_of_ours(
    http: HttpPeer, status: int, error: str, kind: type[TransportError]
) -> None:
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
def test_an_http_body_that_cannot_be_read_is_refused_without_its_content(
    http: HttpPeer, headers: dict[str, str], body: bytes
) -> None:
    http.reply = (200, headers, body)
    with pytest.raises(RejectedError, match="cannot be read") as caught:
        once(f"http://{http.address}")
    assert "secret" not in f"{caught.value} {caught.value.__cause__}"


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
    with HttpTransport(http.address) as transport:
        future = transport.submit(rows.encode(ROW), None)
        while not http.seen:
            threading.Event().wait(0.01)
        future.cancel()
        assert http.gone.wait(5)


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


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def roots(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tls") / "roots.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


@pytest.fixture(scope="module")
def client_tls(authority: trustme.CA, roots: Path) -> Tls:
    issued = authority.issue_cert("client@example.org")
    certificate, key = roots.with_name("client.pem"), roots.with_name("client.key")
    issued.cert_chain_pems[0].write_to_path(str(certificate))
    issued.private_key_pem.write_to_path(str(key))
    return Tls(roots, certificate, key)


def grpc_credentials(authority: trustme.CA, *, mutual: bool) -> grpc.ServerCredentials:
    issued = authority.issue_cert("127.0.0.1")
    pair = (issued.private_key_pem.bytes(), b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    return grpc.ssl_server_credentials([pair], authority.cert_pem.bytes() if mutual else None, mutual)


def test_grpc_over_tls_with_client_certificate_token_and_header(authority: trustme.CA, client_tls: Tls) -> None:
    seen: list[dict[str, str]] = []

    def handler(request: Any, context: grpc.ServicerContext) -> Any:
        seen.append(dict(context.invocation_metadata()))
        return answer(request, context)

    with listening(handler, grpc_credentials(authority, mutual=True)) as url:
        assert once(url, tls=client_tls, token="abc", headers={"X-Course": "algebra"})[0].ok
        assert once(f"grpcs://{url}", tls=client_tls)[0].ok
        with pytest.raises(UnavailableError):
            once(url, tls=Tls(client_tls.root_certificates))
    assert (seen[0]["authorization"], seen[0]["x-course"]) == ("Bearer abc", "algebra")


def test_a_grpc_server_that_nobody_vouches_for_is_not_talked_to(authority: trustme.CA, tmp_path: Path) -> None:
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "other.pem"))
    with listening(answer, grpc_credentials(authority, mutual=False)) as url:
        for options in ({"tls": Tls(tmp_path / "other.pem")}, {"tls": Tls()}, {}):
            with pytest.raises(UnavailableError):
                once(url, **options)


def test_https_checks_certificates_both_ways(authority: trustme.CA, client_tls: Tls) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    with HttpPeer(context) as peer:
        threading.Thread(target=peer.serve_forever, args=(0.01,), daemon=True).start()
        peer.reply = (400, {}, b'{"error": "heard you"}')
        with pytest.raises(RejectedError, match="heard you"):
            once(f"https://{peer.address}", tls=client_tls)
        for tls in (Tls(client_tls.root_certificates), Tls(), None):
            with pytest.raises(UnavailableError):
                once(f"https://{peer.address}", tls=tls)
        assert len(peer.seen) == 1
        peer.shutdown()


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
                    answered.acquire(timeout=5)
                    end(connection)
                    ended.release()
                else:  # while the next request is on its way
                    threading.Timer(0.0005, end, [connection]).start()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        url = f"{'https' if secure else 'http'}://127.0.0.1:{listener.getsockname()[1]}"
        with connect(url, tls=Tls(roots) if secure else None) as transport:
            for number in range(answers):
                with pytest.raises(RejectedError, match=f"heard you {number}$"):
                    transport.submit(rows.encode(ROW), 5.0).result()
                if pause:
                    answered.release()
                    assert ended.acquire(timeout=5)
                    time.sleep(0.01)  # for it to arrive
        thread.join(10)


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("localhost:8001", GrpcTransport),
        ("grpc://[::1]:8001", GrpcTransport),
        ("grpcs://scores.example.org:443", GrpcTransport),
        ("http://localhost:8000", HttpTransport),
        ("https://scores.example.org:443/triton/", HttpTransport),
    ],
)
def test_an_address_chooses_the_transport(url: str, kind: type) -> None:
    transport = connect(url)
    assert isinstance(transport, kind)
    transport.close()


@pytest.mark.parametrize("url", ["", "localhost", "ftp://host:1", "host:port", "grpc://:1", "grpc://host:1/path"])
def test_an_address_that_makes_no_sense_is_refused(url: str) -> None:
    with pytest.raises(InputError):
        connect(url)


def test_a_password_in_an_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(InputError) as caught:
        connect("https://me:hunter2@host:1")
    assert "hunter2" not in str(caught.value)


def test_certificates_and_plain_text_do_not_go_together() -> None:
    with pytest.raises(InputError, match="say http"):
        connect("http://host:1", Tls())


def test_certificates_are_named_when_they_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="belong together"):
        Tls(client_key=tmp_path / "key.pem")
    missing = Tls(tmp_path / "missing.pem")
    for url in ("host:1", "https://host:1"):
        with pytest.raises(InputError, match=r"missing\.pem"):
            connect(url, missing)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"token": "a\nb"}, "the header authorization has characters"),
        ({"headers": {"x y": "1"}}, "a header's name"),
        ({"headers": {"": "1"}}, "a header's name"),
        ({"token": "secret", "headers": {"Authorization": "secret"}}, "give one of them"),
    ],
)
def test_headers_that_http_cannot_carry_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence) as caught:
        ScoringClient("host:1", **options)
    assert "secret" not in str(caught.value)
