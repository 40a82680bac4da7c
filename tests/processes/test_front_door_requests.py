"""What a real HAProxy lets through: no body, URI or model but inference's, no request known to end Triton 24.10."""

import json
import random
import ssl
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2

from doors import bearer, needs_haproxy
from malformed import classify, huge, packed
from stands import Stand, head, message, rows, send, stand

pytestmark = needs_haproxy
WORD = b"classification"
REFUSED = "no classification of outputs"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    with stand(tmp_path_factory.mktemp("door"), patterns={"ours": "*"}) as made:
        yield made


def varint(value: int, padding: int = 0) -> bytes:
    """Return a number as protobuf writes it, with `padding` bytes more than it needs."""
    digits = [value & 0x7F]
    while value := value >> 7:
        digits.append(value & 0x7F)
    digits += [0] * padding
    return bytes([digit | 0x80 for digit in digits[:-1]] + digits[-1:])


def field(number: int, content: bytes, padding: int = 0) -> bytes:
    return varint(number << 3 | 2, padding) + varint(len(content), padding) + content


def request(outputs: list[bytes], after: bool = True) -> bytes:
    base = message([b"t-1"]).SerializeToString()
    written = b"".join(field(6, output) for output in outputs)
    return base + written if after else field(1, b"scorer") + written + base


@pytest.mark.parametrize("padding", range(5))
@pytest.mark.parametrize("after", [True, False])
def test_classification_over_grpc_is_refused_in_every_encoding(shared: Stand, padding: int, after: bool) -> None:
    plain = field(1, b"STATUS")
    value = field(2, b"\x10\x01")
    for entry in (
        field(1, WORD, padding) + value,
        value + field(1, WORD, padding),
        field(1, b"x") + value + field(1, WORD, padding),
        b"\x98\x01\x07" + field(1, WORD, padding),  # an unknown field before it
    ):
        for output in (plain + field(2, entry), field(2, entry) + plain):
            for outputs in ([output], [plain, plain, output], [output, plain]):
                body = request(outputs, after)
                parsed = service_pb2.ModelInferRequest.FromString(body)
                # Python's parser, unlike Triton's, takes no entry with a field that it does not know.
                assert b"\x98" in entry or any("classification" in output.parameters for output in parsed.outputs)
                code, sentence = send(shared, body)
                assert (code, REFUSED in sentence) == (grpc.StatusCode.INVALID_ARGUMENT, True)
    assert send(shared, classify().SerializeToString())[0] is grpc.StatusCode.INVALID_ARGUMENT


TEXTS = [
    b"classification",
    b"the classification of rocks",
    b'"outputs": [{"parameters": {"classification": 1}}], "shape": [99999999999]',
    b"\nclassification",
    b"\x0eclassification",
    b"\n classification\n",
    b'{"classification":1}, "classification" : ',
    b'\\",{"classification":',
    "\u008e\0classification".encode(),
]


def test_text_with_the_word_passes_over_grpc_and_http(shared: Stand) -> None:
    draw = random.Random(7)
    texts = TEXTS + [draw.choice(TEXTS)[: draw.randint(0, 40)] + draw.randbytes(5) + WORD for _ in range(60)]
    for text in texts:
        assert send(shared, message([b"t-1"], [text]).SerializeToString())[0] is grpc.StatusCode.OK, text
        typed = service_pb2.ModelInferRequest(model_name="scorer")
        typed.inputs.add(name="TEXT", datatype="BYTES", shape=[1, 1]).contents.bytes_contents.append(text)
        assert send(shared, typed.SerializeToString())[0] is grpc.StatusCode.OK, text
        status, _ = shared.post("ours", rows(["t-1"], [text.decode("utf-8", "replace")]))
        assert status == 200, text
        head = json.dumps({"inputs": [{"name": "TEXT", "datatype": "BYTES", "shape": [1, 1]}]}).encode()
        length = str(len(head))
        status, _ = shared.post("ours", head + packed([text]), inference_header_content_length=length)
        assert status == 200, text


def document(**more: Any) -> dict[str, Any]:
    return {**json.loads(rows(["t-1"])), **more}


def escaped(word: str, every: int) -> str:
    return "".join(f"\\u{ord(c):04x}" if i % every == 0 else c for i, c in enumerate(word))


@pytest.mark.parametrize("key", ["classification", *(escaped("classification", n) for n in (1, 2, 5, 13))])
@pytest.mark.parametrize("space", ["", " ", "\r\n\t "])
def test_classification_over_http_is_refused_in_every_encoding(shared: Stand, key: str, space: str) -> None:
    output = {"name": "STATUS", "parameters": {"binary_data": False, "classification": 1}}
    for outputs in ([output], [{"name": "LEVEL"}, output]):
        text = json.dumps(document(outputs=outputs), separators=(f"{space},{space}", f"{space}:{space}"))
        body = text.replace('"classification"', f'"{key}"').encode()
        assert "classification" in json.loads(body)["outputs"][-1]["parameters"]
        for headers in (
            {},
            {"inference_header_content_length": str(len(body))},
            {"inference_header_content_length": f"{len(body)}x"},
            {"inference_header_content_length": f"+{len(body)}"},
            {"inference_header_content_length": str((1 << 64) + len(body))},
        ):
            status, sentence = shared.post("ours", body, **headers)
            assert (status, REFUSED in sentence) == (400, True), headers


@pytest.mark.parametrize("key", ["shape", escaped("shape", 2)])
@pytest.mark.parametrize(
    ("shape", "refused"),
    [
        ([1, 579, 513, 2**31], True),
        ([2**62], True),
        ([65537], True),
        ([300, 300], True),
        ([-1, 2**40], True),
        ([2**62, 4], True),
        ([2**32] * 2, True),
        (["-", 0], True),
        (["1e12"], True),
        ([512, 1], False),
        ([0, 2**31], False),
        ([], False),
    ],
)
def test_huge_shape_over_http_is_refused(shared: Stand, key: str, shape: list[Any], refused: bool) -> None:
    tensor = {"name": "TEXT", "datatype": "INT64", "shape": shape, "data": [1]}
    text = json.dumps(document(inputs=[{"name": "TASK", "shape": [1]}, tensor])).replace('"1e12"', "1e12")
    status, sentence = shared.post("ours", text.replace('"shape"', f'"{key}"').encode())
    assert (status, REFUSED in sentence) == ((400, True) if refused else (200, False))


def test_many_shapes_count_together_and_a_long_body_is_looked_through_quickly(shared: Stand) -> None:
    tensor = {"name": "TEXT", "datatype": "INT64", "shape": [60_000], "data": []}
    assert shared.post("ours", json.dumps({"inputs": [tensor]}).encode())[0] == 200
    assert shared.post("ours", json.dumps({"inputs": [tensor] * 2}).encode())[0] == 400
    assert shared.post("ours", huge())[0] == 400
    for filler in (b'{"', b",", b"{   ", b'\\"', b'","', b'{"shape":[1],'):
        status, _ = shared.post("ours", (filler * (1 << 21))[: (2 << 20) - 10])
        assert status in (200, 400), filler


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
