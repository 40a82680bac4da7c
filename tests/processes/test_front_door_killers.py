"""A real HAProxy refuses the known requests that end Triton 24.10, in every encoding; texts with their words pass."""

import json
import random
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2

from doors import needs_haproxy
from malformed import classify, huge, packed
from stands import Stand, message, rows, send, stand

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
    """Return a field of bytes."""
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
