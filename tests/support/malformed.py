"""Requests to the scorer that no client of ours sends: random names, shapes, types, sizes, bytes and parameters.

Two kinds are left out, since they kill Triton 2.51 itself before the scorer sees them, and the watcher starts it again:
`classification` of a BYTES output (`classify`) and, over HTTP, numbers in JSON with a huge shape (`huge`).

A request is a function of its seed alone, so that one that breaks something can be sent again.
"""

from __future__ import annotations

import json
import math
import random
import struct
from collections.abc import Callable
from typing import Any

from tritonclient.grpc import service_pb2

NAMES = ("TEXT", "TASK", "STATUS", "text", "", "TEXT\0", "Ü", "x" * 300)
TYPES = ("BYTES", "INT32", "FP32", "INT64", "BOOL", "FP16", "UINT8", "STRING", "", "NOPE", "bytes")
SIZES = (-1, 0, 1, 2, 3, 512, 513, 65536, 2**31 - 1, 2**31, 2**40, 2**62, -(2**63))
PARAMETERS = """
    shared_memory_region shared_memory_byte_size shared_memory_offset sequence_id sequence_start sequence_end priority
    timeout binary_data_size binary_data binary_data_output triton_enable_empty_final_response deadline_ms batch x
""".split()  # noqa: SIM905
OUTPUTS = ("STATUS", "LEVEL", "PROBABILITIES", "NOPE", "", "VERSION", "EMBEDDING")
Request = Any


def a_text(draw: random.Random) -> bytes:
    """Return a row's text: often short, at times long or no UTF-8 at all."""
    kind = draw.randrange(6)
    if kind == 0:
        return draw.randbytes(draw.randint(0, 40))
    if kind == 1 and draw.random() < 0.05:
        return b"word " * draw.choice((100, 20_000, 250_000))
    return draw.choice((b"", b"It hands out addresses.", b"\0\0", "ü\u202e😀".encode(), b"\xed\xa0\x80"))


def a_task(draw: random.Random) -> bytes:
    return draw.choice((b"en-6.3-ipp", b"t-1", b"", b"@", b"../../etc", b"t-1@" + b"0" * 64, draw.randbytes(9)))


def a_number(draw: random.Random) -> int:
    return draw.choice((*SIZES, draw.randint(-5, 600)))


def packed(values: list[bytes]) -> bytes:
    """Return BYTES values as the wire has them: each after its length, little-endian."""
    return b"".join(struct.pack("<I", len(value)) + value for value in values)


def classify(task: bytes = b"t-1") -> Request:
    """Return the one known request that kills Triton 2.51: it divides by the size of a BYTES element, which is 0."""
    request = service_pb2.ModelInferRequest(model_name="scorer")
    for name, value in (("TEXT", b"a"), ("TASK", task)):
        request.inputs.add(name=name, datatype="BYTES", shape=[1, 1])
        request.raw_input_contents.append(packed([value]))
    request.outputs.add(name="STATUS").parameters["classification"].int64_param = 1
    return request


def huge() -> bytes:
    """Return the body of a known HTTP request that kills Triton 2.51: it makes room for the shape before it looks."""
    tensor = {"name": "TEXT", "datatype": "INT64", "shape": [1, 579, 513, 2**31], "data": [1]}
    return json.dumps({"inputs": [tensor]}).encode()


# gRPC ---------------------------------------------------------------------------------------------------------------


def grpc_request(seed: int | str) -> Request:
    """Return a `ModelInferRequest` with up to four things wrong."""
    draw = random.Random(f"grpc {seed}")
    rows = draw.choice((0, 1, 1, 2, 3, 5, 513))
    request = service_pb2.ModelInferRequest(model_name="scorer")
    for name, value in (("TEXT", a_text), ("TASK", a_task)):
        request.inputs.add(name=name, datatype="BYTES", shape=[rows, 1])
        request.raw_input_contents.append(packed([value(draw) for _ in range(rows)]))
    for _ in range(draw.randint(0, 4)):
        draw.choice(_GRPC)(request, draw)
    return request


def _an_input(request: Request, draw: random.Random) -> Any:
    return draw.choice(request.inputs) if request.inputs else request.inputs.add()


def _shape(request: Request, draw: random.Random) -> None:
    del (tensor := _an_input(request, draw)).shape[:]
    tensor.shape.extend(a_number(draw) for _ in range(draw.randint(0, 5)))


def _type(request: Request, draw: random.Random) -> None:
    _an_input(request, draw).datatype = draw.choice(TYPES)


def _name(request: Request, draw: random.Random) -> None:
    _an_input(request, draw).name = draw.choice(NAMES)


def _more_or_less_inputs(request: Request, draw: random.Random) -> None:
    if request.inputs and draw.random() < 0.5:
        del request.inputs[draw.randrange(len(request.inputs))]
    else:
        request.inputs.add(name=draw.choice(NAMES), datatype=draw.choice(TYPES), shape=[1, 1])


def _raw(request: Request, draw: random.Random) -> None:
    lie = struct.pack("<I", draw.choice((0, 1, 2**31 - 1, 2**32 - 1))) + draw.randbytes(draw.randint(0, 9))
    content = draw.choice((b"", lie, draw.randbytes(draw.randint(0, 64)), packed([b"a"] * draw.randint(0, 9))))
    if request.raw_input_contents and draw.random() < 0.7:
        request.raw_input_contents[draw.randrange(len(request.raw_input_contents))] = content
    else:
        request.raw_input_contents.append(content)


def _typed(request: Request, draw: random.Random) -> None:
    if draw.random() < 0.5:
        del request.raw_input_contents[:]
    contents = _an_input(request, draw).contents
    field = draw.choice(("bytes_contents", "int_contents", "fp32_contents", "bool_contents", "uint64_contents"))
    values = {"bytes_contents": a_text(draw), "fp32_contents": float("nan"), "bool_contents": True}
    getattr(contents, field).extend([values.get(field, 7)] * draw.randint(0, 9))


def _parameter(request: Request, draw: random.Random) -> None:
    target = draw.choice((request, _an_input(request, draw), request.outputs.add(name=draw.choice(OUTPUTS))))
    parameter = target.parameters[draw.choice(PARAMETERS)]
    words = draw.choice(("x", "nan", "-1", "1e999", "true", "１", "\0", "[" * 5000))
    values = {"bool_param": True, "int64_param": a_number(draw), "string_param": words, "double_param": math.nan}
    kind = draw.choice(list(values))
    setattr(parameter, kind, values[kind])


def _outputs(request: Request, draw: random.Random) -> None:
    for _ in range(draw.randint(1, 3)):
        request.outputs.add(name=draw.choice(OUTPUTS))


def _addressed(request: Request, draw: random.Random) -> None:
    if draw.random() < 0.5:
        request.model_version = draw.choice(("1", "2", "-1", "x", "9" * 30))
    else:
        request.model_name = draw.choice(("scorer", "", "backbone", "../scorer", "s" * 5000))
    request.id = draw.choice(("", "id", "i" * 10_000, "\u202e"))


_GRPC: tuple[Callable[[Request, random.Random], None], ...] = (
    *(_shape, _type, _name, _more_or_less_inputs, _raw),
    *(_typed, _parameter, _outputs, _addressed),
)


# HTTP ---------------------------------------------------------------------------------------------------------------


def http_request(seed: int | str) -> tuple[str, bytes, dict[str, str]]:
    """Return path, body and headers of a POST with something wrong."""
    draw = random.Random(f"http {seed}")
    body, path, headers = _document(draw), "/v2/models/scorer/infer", {}
    for _ in range(draw.randint(0, 3)):
        _spoil(body, draw)
    payload = json.dumps(body).encode()
    kind = draw.randrange(10)
    if kind == 0:
        payload = payload[: draw.randint(0, len(payload))]
    elif kind == 1:
        payload = draw.randbytes(draw.randint(0, 200))
    elif kind == 2:
        depth = draw.randint(2, 200)
        payload = b"[" * depth + b"]" * draw.choice((depth, 0))
    elif kind == 3:
        headers["Inference-Header-Content-Length"] = draw.choice(("0", "-1", "x", str(2**64), str(len(payload) - 3)))
    elif kind == 4:
        binary = packed([a_text(draw)])
        headers["Inference-Header-Content-Length"] = str(len(payload))
        payload += draw.choice((binary, binary[:-1], binary + b"more", draw.randbytes(20)))
    elif kind == 5:
        headers["Content-Encoding"] = draw.choice(("gzip", "deflate", "br", ""))
    elif kind == 6:
        path = f"/v2/models/scorer/versions/{draw.choice(('1', '2', 'x', '-1', '9' * 40))}/infer"
    return path, payload, headers


def _document(draw: random.Random) -> dict[str, Any]:
    rows = draw.choice((0, 1, 1, 2, 513))
    columns = (("TEXT", a_text), ("TASK", a_task))
    return {
        "inputs": [
            {
                "name": name,
                "datatype": "BYTES",
                "shape": [rows, 1],
                "data": [value(draw).decode("utf-8", "replace") for _ in range(rows)],
            }
            for name, value in columns
        ]
    }


def _odd_value(draw: random.Random) -> Any:
    lists: tuple[Any, ...] = ([], {}, [[]], [None], [[1, "a"], {}], {"a": {"b": []}})
    values = (None, True, -1, 2**63, 1e308, "x", "", *lists)
    return draw.choice((*values, a_number(draw)))


def _spoil(body: dict[str, Any], draw: random.Random) -> None:
    tensor = draw.choice(body["inputs"]) if body.get("inputs") and isinstance(body["inputs"], list) else {}
    key = draw.choice(("name", "datatype", "shape", "data", "parameters", "outputs", "top"))
    if key == "outputs":
        body[key] = [{"name": draw.choice(OUTPUTS), "parameters": {draw.choice(PARAMETERS): _odd_value(draw)}}]
    elif not isinstance(tensor, dict) or key == "top":
        body[draw.choice(("inputs", "outputs", "parameters", "id", "x"))] = _odd_value(draw)
    elif key == "shape":
        sizes = [a_number(draw) for _ in range(draw.randint(0, 4))]
        # No shape of more than a million elements: see `huge`.
        tensor[key] = sizes if abs(math.prod(sizes)) <= 1 << 20 else [draw.randint(-3, 20) for _ in sizes]
    elif key == "parameters":
        tensor[key] = {draw.choice(PARAMETERS): draw.choice((a_number(draw), _odd_value(draw)))}
    else:
        tensor[key] = draw.choice((_odd_value(draw), draw.choice(TYPES), draw.choice(NAMES)))
