"""Requests that try to score what their token may not, through a real HAProxy and past it, at a real Triton.

They are varied, over gRPC and HTTP, and it is known what each of them must get.
"""

import base64
import http.client
import json
import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2
from tritonclient.utils import deserialize_bytes_tensor, serialize_byte_tensor

from doors import KEY, Place, backend_of, bearer, granted, needs_haproxy, serving
from scoremux_engine.scoring.permission import HEADER

pytestmark = needs_haproxy
ALLOWED = "t-1"
TASKS = {
    ALLOWED: "OK",
    f"{ALLOWED}@{'0' * 64}": "UNKNOWN_TASK",
    **dict.fromkeys(("t-2", "t-3", "t-4", "t-11", "T-1", "t-1.", f"t-2@{'0' * 64}", "nobody"), "FORBIDDEN_TASK"),
    **dict.fromkeys(("t-1 ", " t-2", "t-1@t-2", "", "t-2\n", "t-1\0", "t-1,t-2", "*", "té", "-t-1"), "INVALID_TASK"),
}
"""What a row of each task gets with a token for `ALLOWED`."""
REFUSED = ["refused"]
OVER = ("grpc", "json", "binary")
ATTEMPTS = 10_000
Pairs = list[tuple[str, str]]


@dataclass
class Attempt:
    """One request: over one of OVER; direct: to Triton's own port; expected: the rows' statuses, or REFUSED."""

    over: str
    direct: bool
    tasks: list[str]
    headers: Pairs
    parameters: Pairs
    expected: list[str]


def forged() -> dict[str, list[str]]:
    """Return grants that give no right, or none that a request may bring through a door, by name."""
    every = granted()[HEADER]
    return {
        "missing": [],
        "another key": [granted(key=b"x" * 32)[HEADER]],
        "expired": [granted(ends=time.time() - 1)[HEADER]],
        "changed": [every.replace(":test:", ":tests:")],
        "widened": [granted([ALLOWED])[HEADER].replace(f":{ALLOWED}:", ":*:")],
        "cut": [every.rpartition(":")[0]],
        "empty": [""],
        "base64": [base64.b64encode(every.encode()).decode()],
        "doubled": [granted([ALLOWED])[HEADER], every],
        "twice": [every, every],
        "key": [KEY.hex()],
    }


def draw_attempt(draw: random.Random, tokens: Mapping[str, str]) -> Attempt:
    over, direct, where = draw.choice(OVER), draw.random() < 0.3, draw.choice(("header", "body"))
    tasks = draw.choices(list(TASKS), [6, *[1] * (len(TASKS) - 1)], k=draw.randint(1, 6))
    kind, token = draw.choice(("good", *forged())), draw.choice(("one", "one", "one", *tokens))
    if direct:
        grants, good = {**forged(), "good": [granted([ALLOWED])[HEADER]]}[kind], kind == "good"
    else:  # the door takes a forged header away; in the body it would be a second grant
        grants = forged().get(kind, [])
        good = token == "one" and not (where == "body" and grants)
    pairs = list(zip(spelt(draw, over, where), grants, strict=False))
    headers = pairs if where == "header" else []
    if not direct:
        headers = [*bearer(tokens[token]).items(), *headers]
    expected = [TASKS[task] for task in tasks] if good else REFUSED
    return Attempt(over, direct, tasks, headers, pairs if where == "body" else [], expected)


def spelt(draw: random.Random, over: str, where: str) -> list[str]:
    """Return how a grant's name, and that of a second one, are written."""
    spellings = [HEADER, "Scoremux-Grant", "SCOREMUX-GRANT", "scoremux-GRANT"]
    if over != "grpc":
        return draw.choices(spellings, k=2)
    # In HTTP/2 headers are in lower case; in the message the parameters are a map, with each name once.
    return [HEADER] * 2 if where == "header" else draw.sample(spellings, 2)


def packed(values: Sequence[str]) -> Any:
    return serialize_byte_tensor(np.array([value.encode() for value in values], dtype=np.object_)).item()


def send_grpc(channel: grpc.Channel, attempt: Attempt) -> list[str]:
    request = service_pb2.ModelInferRequest(model_name="scorer")
    for name, values in (("TEXT", ["a router"] * len(attempt.tasks)), ("TASK", attempt.tasks)):
        request.inputs.add(name=name, datatype="BYTES", shape=[len(values), 1])
        request.raw_input_contents.append(packed(values))
    for name, value in attempt.parameters:  # a map: of two, the last one stays
        request.parameters[name].string_param = value
    path = "/inference.GRPCInferenceService/ModelInfer"
    try:
        answered = channel.unary_unary(path)(request.SerializeToString(), metadata=attempt.headers, timeout=60)
    except grpc.RpcError as error:
        assert error.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNAUTHENTICATED), error
        return REFUSED
    response = service_pb2.ModelInferResponse.FromString(answered)
    place = [output.name for output in response.outputs].index("STATUS")
    return [status.decode() for status in deserialize_bytes_tensor(response.raw_output_contents[place])]


def send_http(connection: http.client.HTTPConnection, attempt: Attempt) -> list[str]:
    body, size = http_body(attempt)
    connection.putrequest("POST", "/v2/models/scorer/infer")
    for name, value in attempt.headers:
        connection.putheader(name, value)
    if attempt.over == "binary":
        connection.putheader("Inference-Header-Content-Length", str(size))
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body)
    answer = connection.getresponse()
    text = answer.read()
    if answer.status != 200:
        assert answer.status in (400, 401), (answer.status, text)
        return REFUSED
    (output,) = json.loads(text)["outputs"]
    return list(output["data"])


def http_body(attempt: Attempt) -> tuple[bytes, int]:
    """Return a request's body, and the size of the JSON in it. A name may come twice among its parameters."""
    inputs, tail = [], b""
    for name, values in (("TEXT", ["a router"] * len(attempt.tasks)), ("TASK", attempt.tasks)):
        tensor: dict[str, Any] = {"name": name, "datatype": "BYTES", "shape": [len(values), 1]}
        if attempt.over == "json":
            tensor["data"] = values
        else:
            tail += packed(values)
            tensor["parameters"] = {"binary_data_size": len(packed(values))}
        inputs.append(tensor)
    pairs = ",".join(f"{json.dumps(name)}:{json.dumps(value)}" for name, value in attempt.parameters)
    rest = json.dumps({"inputs": inputs, "outputs": [{"name": "STATUS"}]})[1:]
    header = f'{{"parameters":{{{pairs}}},{rest}'.encode()
    return header + tail, len(header)


@pytest.mark.nightly
def test_forbidden_rows_of_random_attacks_are_not_scored(small_repository: Path, tmp_path: Path) -> None:
    draw, seen = random.Random(1), Counter[str]()
    with ExitStack() as stack:
        server = stack.enter_context(serving(small_repository, tmp_path / "triton.log"))
        place = Place(tmp_path, [backend_of(server.endpoints)])
        tokens = {"one": place.tokens.add("one", [ALLOWED], 0, 1), "unknown": "smx_" + "x" * 43}
        tokens |= {name: place.tokens.add(name, ["*"], 0, 1) for name in ("revoked", "expired")}
        place.expire("expired")
        place.tokens.revoke("revoked")
        stack.enter_context(place.open())
        roots = grpc.ssl_channel_credentials((tmp_path / "ca.pem").read_bytes())
        channels = (
            grpc.secure_channel(f"localhost:{place.port}", roots),
            grpc.insecure_channel(server.endpoints.grpc_url),
        )
        connections = (
            http.client.HTTPSConnection("localhost", place.port, context=place.context(), timeout=60),
            http.client.HTTPConnection("127.0.0.1", server.endpoints.http, timeout=60),
        )
        for each in (*channels, *connections):
            stack.callback(each.close)
        for number in range(ATTEMPTS):
            attempt = draw_attempt(draw, tokens)
            if attempt.over == "grpc":
                got = send_grpc(channels[attempt.direct], attempt)
            else:
                got = send_http(connections[attempt.direct], attempt)
            assert got == attempt.expected, (number, attempt)
            seen.update([f"{attempt.over} {'refused' if got == REFUSED else 'answered'}", *got])
    # The attempts prove nothing if all of them fail for another reason.
    assert all(seen[f"{over} {came}"] > ATTEMPTS // 20 for over in OVER for came in ("answered", "refused"))
    assert seen["OK"] > ATTEMPTS // 10 and seen["FORBIDDEN_TASK"] > ATTEMPTS // 10
