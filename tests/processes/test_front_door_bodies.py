"""What a real HAProxy lets through besides inference: no bodies, no other URIs, no other models."""

import ssl
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import grpc
import pytest
from tritonclient.grpc import service_pb2

from doors import bearer, needs_haproxy
from stands import Stand, head, send, stand

pytestmark = needs_haproxy


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    with stand(tmp_path_factory.mktemp("door"), patterns={"ours": "t-*"}) as made:
        yield made


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_other_requests_have_no_body(shared: Stand, method: str) -> None:
    before = len(shared.web.requests)
    for more in ("transfer-encoding: chunked\r\n", "content-length: 5\r\n", "content-length: 99999999\r\n"):
        with shared.place.connect() as connection:
            connection.sendall(head(shared.tokens["ours"], method, "/v2/health/live", more))
            heard = connection.recv(4096)
            assert heard.startswith(b"HTTP/1.1 400") and (method == "HEAD" or b"may have no body" in heard), more
    assert len(shared.web.requests) == before
    with shared.place.connect() as connection:
        connection.sendall(head(shared.tokens["ours"], method, "/v2/health/live"))
        assert connection.recv(4096).startswith(b"HTTP/1.1 200")


def frame(kind: int, flags: int, stream: int, content: bytes) -> bytes:
    return len(content).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + content


def literal(name: str, value: str) -> bytes:
    return b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


def heard_until(sentence: bytes, connection: ssl.SSLSocket) -> None:
    heard = b""
    while sentence not in heard:
        part = connection.recv(4096)
        assert part, heard
        heard += part


@pytest.mark.parametrize("pause_s", [0, 0.3])
@pytest.mark.parametrize("length", [None, "3000"])
def test_other_requests_have_no_body_over_http2_either(shared: Stand, length: str | None, pause_s: float) -> None:
    before = len(shared.web.requests)
    told = {":method": "GET", ":scheme": "https", ":authority": "x", ":path": "/v2/health/live"}
    told |= bearer(shared.tokens["ours"])
    if length:
        told["content-length"] = length
    headers = b"".join(literal(name, value) for name, value in told.items())
    with shared.place.connect("h2") as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"") + frame(1, 4, 1, headers))
        time.sleep(pause_s)
        connection.sendall(frame(0, 0, 1, b"A" * 1000) * 2 + frame(0, 1, 1, b"A" * 1000))
        heard_until(b"may have no body", connection)
    assert len(shared.web.requests) == before
    with shared.place.connect("h2") as connection:  # none, though its end is said late
        headers = b"".join(literal(name, value) for name, value in told.items() if name != "content-length")
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"") + frame(1, 4, 1, headers))
        time.sleep(pause_s)
        connection.sendall(frame(0, 1, 1, b""))
        heard_until(b"{}", connection)


@pytest.mark.parametrize("encodings", [["gzip"], ["identity", "gzip"], ["deflate", "identity"], ["identity,gzip"]])
def test_no_compressed_message_passes_behind_another_encoding(shared: Stand, encodings: list[str]) -> None:
    path = "/inference.GRPCInferenceService/ModelInfer"
    headers = {
        ":method": "POST",
        ":scheme": "https",
        ":authority": "x",
        ":path": path,
        "content-type": "application/grpc",
    }
    pairs = [*headers.items(), *bearer(shared.tokens["ours"]).items(), *(("grpc-encoding", e) for e in encodings)]
    # Deflate's stored blocks show HAProxy a model's name; what follows may be compressed.
    body = zlib.compress(b"_" * 4 + b"\x0a\x06scorer" + b"classification", 0)
    content = b"\1" + len(body).to_bytes(4, "big") + body
    with shared.place.connect("h2") as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b""))
        connection.sendall(frame(1, 4, 1, b"".join(literal(*pair) for pair in pairs)) + frame(0, 1, 1, content))
        heard_until(b"compressed requests are not accepted", connection)


@pytest.mark.parametrize("uri", ["http://x{}", "http://a:b@x{}", "https://x:80{}", "foo://x{}", "x{}"])
def test_a_uri_begins_with_a_slash(shared: Stand, uri: str) -> None:
    before = len(shared.web.requests)
    with shared.place.connect() as connection:
        connection.sendall(head(shared.tokens["ours"], "GET", uri.format("/v2/health/live")))
        assert connection.recv(4096).split(b" ")[1] in (b"404", b"400")
    assert len(shared.web.requests) == before


def test_models_besides_the_scorer_are_not_shown_over_grpc(shared: Stand) -> None:
    for method, asked in (
        ("ModelReady", service_pb2.ModelReadyRequest),
        ("ModelMetadata", service_pb2.ModelMetadataRequest),
    ):
        for name, version, welcome in (
            ("scorer", "", True),
            ("scorer", "1", True),
            ("backbone", "", False),
            ("scorer", "2", True),
            ("", "", False),
        ):
            code, said = send(shared, asked(name=name, version=version).SerializeToString(), method=method)
            assert code is grpc.StatusCode.UNIMPLEMENTED
            assert ("does not offer this endpoint" in said) != welcome, (method, name, version)


@pytest.mark.parametrize(("name", "welcome"), [("scorer", True), ("backbone", False), ("", False)])
def test_no_model_but_the_scorer_is_asked_for_scores_over_grpc(shared: Stand, name: str, welcome: bool) -> None:
    code, _ = send(shared, service_pb2.ModelInferRequest(model_name=name).SerializeToString())
    assert code is (grpc.StatusCode.OK if welcome else grpc.StatusCode.UNIMPLEMENTED)


def attack(shared: Stand, frames: bytes, repeat: int) -> None:
    """Send frames on one HTTP/2 connection again and again, until the door closes it or all are sent."""
    with shared.place.connect("h2") as connection, suppress(OSError):
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b""))
        for start in range(1, 2 * repeat, 2):
            connection.sendall(frames.replace(b"SSSS", start.to_bytes(4, "big")))


@pytest.mark.nightly
@pytest.mark.parametrize("kind", ["rapid reset", "continuation", "empty continuation", "ping"])
def test_http2_floods_keep_nobody_out_and_reach_no_triton(shared: Stand, kind: str) -> None:
    sent = {":method": "GET", ":scheme": "https", ":authority": "x", ":path": "/v2/health/live"}
    headers = b"".join(literal(name, value) for name, value in {**sent, **bearer(shared.tokens["ours"])}.items())
    begin = len(headers).to_bytes(3, "big") + b"\1\5SSSS" + headers
    frames, repeat = {
        "rapid reset": (begin + b"\0\0\4\3\0SSSS\0\0\0\x08", 20_000),
        "continuation": (frame(1, 0, 1, headers) + frame(9, 0, 1, literal("x" * 60, "y" * 120) * 80) * 50, 20),
        "empty continuation": (frame(1, 0, 1, headers) + frame(9, 0, 1, b"") * 20_000, 1),
        "ping": (frame(6, 0, 0, b"12345678") * 1000, 50),
    }[kind]
    before, answered = len(shared.web.requests), 0
    with ThreadPoolExecutor(4) as threads:
        floods = [threads.submit(attack, shared, frames, repeat) for _ in range(4)]
        while not all(flood.done() for flood in floods) or answered < 5:
            with shared.place.connect() as connection:  # within its timeout of a minute
                connection.sendall(head(shared.tokens["ours"], "GET", "/v2/health/live"))
                assert connection.recv(4096).startswith(b"HTTP/1.1 200")
            answered += 1
    assert len(shared.web.requests) - before == answered
