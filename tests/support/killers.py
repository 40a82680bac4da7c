"""Requests that end the bundled Triton, in encodings that no library of ours writes, and innocent rows with their word.

A request is a function of its draw alone, as those of `malformed`.
"""

from __future__ import annotations

import json
import random
from typing import Any

from malformed import packed

WORD = b"classification"
SPACES = ("", "", " ", "\n", "\r\n\t ", "  ")


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


def _padded(draw: random.Random, number: int, content: bytes) -> bytes:
    return field(number, content, draw.choice((0, 0, 1, 2, 3)))


def _rows(task: bytes, text: bytes) -> bytes:
    tensors = b"".join(
        field(5, field(1, name) + field(2, b"BYTES") + b"\x18\x01\x18\x01") for name in (b"TEXT", b"TASK")
    )
    return tensors + field(7, packed([text])) + field(7, packed([task]))


def _noise(draw: random.Random) -> bytes:
    """Return a field that no message of KServe has, or nothing."""
    return draw.choice((b"", b"", b"\x98\x06\x07", field(99, draw.randbytes(5)), b"\xfd\x06abcd"))


def grpc_killer(draw: random.Random) -> bytes:
    """Return a `ModelInferRequest` that asks for `classification` of an output."""
    value = draw.choice((b"\x10\x01", b"\x10\x00", b"\x10" + b"\xff" * 9 + b"\x01", field(3, b"1"), b"\x08\x01"))
    key = field(1, WORD, draw.choice((0, 0, 1, 2, 3, 4)))
    parts = [key, _padded(draw, 2, value)]
    if draw.random() < 0.3:
        parts.append(field(1, draw.choice((b"x", b"binary_data"))))  # of two keys, the last one counts
    draw.shuffle(parts)
    parts = [part for part in parts if part != key] + [key] if len(parts) > 2 else parts
    entry = _padded(draw, 2, _noise(draw) + b"".join(parts) + _noise(draw))
    name = field(1, draw.choice((b"STATUS", b"VERSION", b"LEVEL", b"PROBABILITIES")))
    output = _padded(draw, 6, draw.choice((name + entry, entry + name, name + _noise(draw) + entry)))
    plain = field(6, field(1, b"STATUS"))
    outputs = draw.choice((output, plain + output, output + plain, plain + output + output))
    rows = _rows(draw.choice((b"t-1", b"t-2", b"nobody")), draw.choice((b"a", WORD, b"")))
    model = field(1, b"scorer")
    return draw.choice((model + rows + outputs, model + outputs + rows, outputs + model + rows))


def _escaped(draw: random.Random, word: str) -> str:
    share = draw.choice((0.0, 0.1, 0.5, 1.0))
    return "".join(draw.choice((f"\\u{ord(c):04x}", f"\\u{ord(c):04X}")) if draw.random() < share else c for c in word)


def _document(tasks: list[str], texts: list[str], **more: Any) -> dict[str, Any]:
    shape, columns = [len(tasks), 1], {"TEXT": texts, "TASK": tasks}
    inputs = [{"name": n, "datatype": "BYTES", "shape": shape, "data": data} for n, data in columns.items()]
    return {"inputs": inputs, **more}


def http_killer(draw: random.Random) -> tuple[bytes, dict[str, str]]:
    """Return body and headers of a request with `classification`, or with a shape of more than 65,536 elements."""
    if draw.random() < 0.5:
        parameters = {draw.choice(("binary_data", "x")): draw.choice((True, None, [1, {"a": 2}])), "classification": 1}
        outputs = [{"name": "LEVEL"}, {"name": "STATUS", "parameters": parameters}][draw.randrange(2) :]
        document, key = _document(["t-1"], ["classification"], outputs=outputs), "classification"
    else:
        shape = draw.choice(
            ([2**31], [1, 579, 513, 2**31], [300, 300], [-1, 2**40], [1e9, 1], [2**62, 2**62], [2**32] * 4)
        )
        kind = draw.choice(("INT64", "FP32", "BYTES", "BOOL"))
        tensor = {"name": draw.choice(("TEXT", "NOPE")), "datatype": kind, "shape": shape, "data": [1]}
        document, key = _document(["t-1"], ["a"]), "shape"
        document["inputs"].insert(draw.randrange(3), tensor)
        if draw.random() < 0.3:
            document = {draw.choice(("x", "id")): {"shape": draw.choice((["-", 0], [0, "1e999"]))}, **document}
    text = json.dumps(document, separators=(f"{draw.choice(SPACES)},{draw.choice(SPACES)}", f"{draw.choice(SPACES)}:"))
    body = text.replace(f'"{key}"', f'"{_escaped(draw, key)}"').encode()
    size = draw.choice(
        (f"{len(body)}", f"{len(body)}x", f"+{len(body)}", f"000{len(body)}", str(2**64 + len(body)), "")
    )
    return body, {"Inference-Header-Content-Length": size} if size else {}


def text_with_word(draw: random.Random) -> str:
    """Return a student's text that contains the word, quoted, escaped and in any company."""
    around = (
        "the ",
        "\n",
        '"',
        '":',
        '{"',
        ',"',
        "\\",
        "\\u0063",
        "\0",
        "\x0e",
        "\x8e\0",
        "é😀",
        '"shape": [9e99]',
        " 1",
    )
    before, after = ("".join(draw.choices(around, k=draw.randint(0, 5))) for _ in range(2))
    # A line feed and U+000E right before the word are refused over gRPC, as the page says.
    before = before.replace("\n\x0e", "\x0e")
    return f"{before}classification{after}"


def innocent_grpc(draw: random.Random, text: str) -> bytes:
    """Return a request for one row of the text, as raw or as typed content."""
    content = text.encode()
    if draw.random() < 0.5:
        return field(1, b"scorer") + _rows(b"t-1", content)
    tensors = ((b"TEXT", content), (b"TASK", b"t-1"))
    return field(1, b"scorer") + b"".join(
        field(5, field(1, name) + field(2, b"BYTES") + b"\x18\x01\x18\x01" + field(5, field(8, value)))
        for name, value in tensors
    )


def innocent_http(draw: random.Random, text: str) -> tuple[bytes, dict[str, str]]:
    """Return body and headers of a request for one row of the text, as JSON or as raw tensors behind it."""
    document = _document(["t-1"], [text], outputs=[{"name": "STATUS"}])
    if draw.random() < 0.5:
        return json.dumps(document, ensure_ascii=draw.random() < 0.5).encode(), {}
    tensors = []
    for tensor in document["inputs"]:
        tensors.append(packed([tensor.pop("data")[0].encode()]))
        tensor["parameters"] = {"binary_data_size": len(tensors[-1])}
    head = json.dumps(document).encode()
    return head + b"".join(tensors), {"Inference-Header-Content-Length": str(len(head))}
