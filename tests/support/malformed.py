"""Requests to the scorer that no client of ours sends: random names, shapes, types, sizes, bytes and parameters; and
what comes of them over gRPC and HTTP: no crash, no hang, an error sentence each.

Two kinds are left out, since they kill Triton 2.51 itself before the scorer sees them, and the watcher starts it again:
`classification` of a BYTES output (`classify`) and, over HTTP, numbers in JSON with a huge shape (`huge`).

A request is a function of its seed alone, so that one that breaks something can be sent again.
"""

import http.client
import json
import math
import random
import struct
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from scoremux_client import Response, ScoringClient, TransportError
from scoremux_server.triton.endpoints import Endpoints

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


def whole(rows: dict[str, list[bytes]]) -> Request:
    """Return a `ModelInferRequest` with nothing wrong."""
    request = service_pb2.ModelInferRequest(model_name="scorer")
    for name, values in rows.items():
        request.inputs.add(name=name, datatype="BYTES", shape=[len(values), 1])
        request.raw_input_contents.append(packed(values))
    return request


def classify(task: bytes = b"t-1") -> Request:
    """Return the one known request that kills Triton 2.51: it divides by the size of a BYTES element, which is 0."""
    request = whole({"TEXT": [b"a"], "TASK": [task]})
    request.outputs.add(name="STATUS").parameters["classification"].int64_param = 1
    return request


def huge() -> bytes:
    """Return the body of a known HTTP request that kills Triton 2.51: it makes room for the shape before it looks."""
    tensor = {"name": "TEXT", "datatype": "INT64", "shape": [1, 579, 513, 2**31], "data": [1]}
    return json.dumps({"inputs": [tensor]}).encode()


def grpc_request(seed: int | str) -> Request:
    """Return a `ModelInferRequest` with up to four things wrong."""
    draw = random.Random(f"grpc {seed}")
    rows = draw.choice((0, 1, 1, 2, 3, 5, 513))
    request = whole({name: [of(draw) for _ in range(rows)] for name, of in (("TEXT", a_text), ("TASK", a_task))})
    for _ in range(draw.randint(0, 4)):
        _spoil_grpc(request, draw)
    return request


def _spoil_grpc(request: Request, draw: random.Random) -> None:
    tensor = draw.choice(request.inputs) if request.inputs else request.inputs.add()
    contents, kind = request.raw_input_contents, draw.randrange(9)
    if kind == 0:
        del tensor.shape[:]
        tensor.shape.extend(a_number(draw) for _ in range(draw.randint(0, 5)))
    elif kind == 1:
        tensor.datatype = draw.choice(TYPES)
    elif kind == 2:
        tensor.name = draw.choice(NAMES)
    elif kind == 3 and draw.random() < 0.5:
        del request.inputs[draw.randrange(len(request.inputs))]
    elif kind == 3:
        request.inputs.add(name=draw.choice(NAMES), datatype=draw.choice(TYPES), shape=[1, 1])
    elif kind == 4:
        lie = struct.pack("<I", draw.choice((0, 1, 2**31 - 1, 2**32 - 1))) + draw.randbytes(draw.randint(0, 9))
        content = draw.choice((b"", lie, draw.randbytes(draw.randint(0, 64)), packed([b"a"] * draw.randint(0, 9))))
        if contents and draw.random() < 0.7:
            contents.pop(draw.randrange(len(contents)))
        contents.append(content)
    elif kind == 5:
        if draw.random() < 0.5:
            del contents[:]
        field = draw.choice(("bytes_contents", "int_contents", "fp32_contents", "bool_contents", "uint64_contents"))
        values = {"bytes_contents": a_text(draw), "fp32_contents": float("nan"), "bool_contents": True}
        getattr(tensor.contents, field).extend([values.get(field, 7)] * draw.randint(0, 9))
    elif kind == 6:
        target = draw.choice((request, tensor, request.outputs.add(name=draw.choice(OUTPUTS))))
        words = draw.choice(("x", "nan", "-1", "1e999", "true", "１", "\0", "[" * 5000))
        odd = {"bool_param": True, "int64_param": a_number(draw), "string_param": words, "double_param": math.nan}
        kind_of = draw.choice(list(odd))
        setattr(target.parameters[draw.choice(PARAMETERS)], kind_of, odd[kind_of])
    elif kind == 7:
        for _ in range(draw.randint(1, 3)):
            request.outputs.add(name=draw.choice(OUTPUTS))
    else:
        request.model_version = draw.choice(("", "1", "2", "-1", "x", "9" * 30))
        request.model_name = draw.choice(("scorer", "scorer", "", "backbone", "../scorer", "s" * 5000))
        request.id = draw.choice(("", "id", "i" * 10_000, "\u202e"))


def http_request(seed: int | str) -> tuple[str, bytes, dict[str, str]]:
    """Return path, body and headers of a POST with something wrong."""
    draw = random.Random(f"http {seed}")
    rows, path, headers = draw.choice((0, 1, 1, 2, 513)), "/v2/models/scorer/infer", {}
    inputs = []
    for name, of in (("TEXT", a_text), ("TASK", a_task)):
        data = [of(draw).decode("utf-8", "replace") for _ in range(rows)]
        inputs.append({"name": name, "datatype": "BYTES", "shape": [rows, 1], "data": data})
    body: dict[str, Any] = {"inputs": inputs}
    for _ in range(draw.randint(0, 3)):
        _spoil_http(body, draw)
    payload, length = json.dumps(body).encode(), "Inference-Header-Content-Length"
    kind = draw.randrange(10)
    if kind == 0:
        payload = payload[: draw.randint(0, len(payload))]
    elif kind == 1:
        payload = draw.randbytes(draw.randint(0, 200))
    elif kind == 2:
        depth = draw.randint(2, 200)
        payload = b"[" * depth + b"]" * draw.choice((depth, 0))
    elif kind == 3:
        headers[length] = draw.choice(("0", "-1", "x", str(2**64), str(len(payload) - 3)))
    elif kind == 4:
        binary = packed([a_text(draw)])
        headers[length] = str(len(payload))
        payload += draw.choice((binary, binary[:-1], binary + b"more", draw.randbytes(20)))
    elif kind == 5:
        headers["Content-Encoding"] = draw.choice(("gzip", "deflate", "br", ""))
    elif kind == 6:
        path = f"/v2/models/scorer/versions/{draw.choice(('1', '2', 'x', '-1', '9' * 40))}/infer"
    return path, payload, headers


def _odd_value(draw: random.Random) -> Any:
    lists: tuple[Any, ...] = ([], {}, [[]], [None], [[1, "a"], {}], {"a": {"b": []}})
    return draw.choice((None, True, -1, 2**63, 1e308, "x", "", *lists, a_number(draw)))


def _spoil_http(body: dict[str, Any], draw: random.Random) -> None:
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


HANG_S = 30.0
WORKERS = 8
MOST_BAD = 40
CODES = {grpc.StatusCode.DEADLINE_EXCEEDED: "hang", grpc.StatusCode.UNAVAILABLE: "crash"}
LATE = "the deadline of the request passed"  # by its parameter deadline_ms: UNAVAILABLE, too


class Tally:
    """Outcomes by kind, and the seeds of the bad ones."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.bad: list[str] = []
        self._lock = threading.Lock()

    def add(self, seed: str, outcome: str) -> None:
        with self._lock:
            self.outcomes[outcome] += 1
            if outcome not in ("answered", "refused"):
                self.bad.append(f"{seed}: {outcome}")


def over_grpc(stub: Any, seed: str) -> str:
    """Send one malformed request; return what came of it."""
    try:
        stub.ModelInfer(grpc_request(seed), timeout=HANG_S)
    except grpc.RpcError as error:
        said = error.details() or ""
        return "refused" if LATE in said else CODES.get(error.code(), "refused" if said else "no sentence")
    return "answered"


def over_http(connection: http.client.HTTPConnection, seed: str) -> str:
    """Send one malformed request; return what came of it."""
    path, body, headers = http_request(seed)
    try:
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        status, text = answer.status, answer.read()
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        return "hang" if isinstance(error, TimeoutError) else f"connection lost ({type(error).__name__})"
    if status == 200:
        return "answered"
    try:
        return "refused" if json.loads(text)["error"] else f"no sentence ({status})"
    except (ValueError, KeyError, TypeError):
        return f"no sentence ({status})"


def send(endpoints: Endpoints, first: int, count: int, seed: str, tally: Tally) -> None:
    """Send `count` requests, every other one over HTTP, on connections of its own."""
    options = [("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
    connection = http.client.HTTPConnection("127.0.0.1", endpoints.http, timeout=HANG_S)
    with grpc.insecure_channel(endpoints.grpc_url, options) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for number in range(first, first + count):
            if len(tally.bad) > MOST_BAD:  # whatever it was, it is found
                break
            name = f"{seed}-{number}"
            tally.add(name, over_grpc(stub, name) if number % 2 else over_http(connection, name))
    connection.close()


def fuzz(endpoints: Endpoints, pids: Callable[[], set[int]], count: int, seed: str = "1") -> Tally:
    """Send `count` requests and check that the same processes serve the same bits as before.

    pids: returns the processes that serve.
    """
    tally, share, before = Tally(), -(-count // WORKERS), pids()
    with ScoringClient(endpoints.grpc_url) as client:
        good = [Response(task, "It hands out addresses.") for task in ("en-6.3-ipp", "t-1")]
        expected = client.score(good)
        with ThreadPoolExecutor(WORKERS) as pool:
            jobs = [pool.submit(send, endpoints, n * share, share, seed, tally) for n in range(WORKERS)]
        for job in jobs:
            job.result()
        try:
            same = repr(client.score(good)) == repr(expected)
        except TransportError:
            same = False
        if not same:
            tally.add("after all", "other bits, or none")
    if pids() != before:
        tally.add("after all", "a process died")
    return tally
