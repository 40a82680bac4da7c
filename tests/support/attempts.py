"""Attempts to score what a token may not: varied requests over gRPC and HTTP, and what each of them must get."""

from __future__ import annotations

import base64
import http.client
import json
import random
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2
from tritonclient.utils import deserialize_bytes_tensor, serialize_byte_tensor

from doors import KEY, Place, backend_of, bearer, granted, serving
from scoremux_engine.scoring.permission import HEADER
from scoremux_server.triton.endpoints import Endpoints

ALLOWED = "t-1"
TASKS = {
    ALLOWED: "OK",
    f"{ALLOWED}@{'0' * 64}": "UNKNOWN_TASK",
    **dict.fromkeys(("t-2", "t-3", "t-4", "t-11", "T-1", "t-1.", f"t-2@{'0' * 64}", "nobody"), "FORBIDDEN_TASK"),
    **dict.fromkeys(("t-1 ", " t-2", "t-1@t-2", "", "t-2\n", "t-1\0", "t-1,t-2", "*", "té", "-t-1"), "INVALID_TASK"),
}
"""What a row of each task gets with a token for `ALLOWED`."""

REFUSED = ["refused"]
Headers = list[tuple[str, str]]
INFER_GRPC, INFER_HTTP = "/inference.GRPCInferenceService/ModelInfer", "/v2/models/scorer/infer"


@dataclass
class Attempt:
    """One request. over: `grpc`, `json` or `binary`; direct: to Triton's own port; expected: the rows' statuses."""

    over: str
    direct: bool
    tasks: list[str]
    headers: Headers
    parameters: Headers
    expected: list[str]
    kind: str


@dataclass
class Attacker:
    """Sends attempts through a front door, and past it to Triton's own ports; counts what came of them."""

    place: Place
    endpoints: Endpoints
    tokens: Mapping[str, str]
    seen: Counter[tuple[str, str]] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        roots = grpc.ssl_channel_credentials((self.place.folder / "ca.pem").read_bytes())
        self.channels = {
            False: grpc.secure_channel(f"localhost:{self.place.port}", roots),
            True: grpc.insecure_channel(self.endpoints.grpc_url),
        }
        context = self.place.tls.context()
        self.connections = {
            False: http.client.HTTPSConnection("localhost", self.place.port, context=context, timeout=60),
            True: http.client.HTTPConnection("127.0.0.1", self.endpoints.http, timeout=60),
        }

    def close(self) -> None:
        for each in (*self.channels.values(), *self.connections.values()):
            each.close()

    def attempt(self, draw: random.Random) -> Attempt:
        over, direct = draw.choice(("grpc", "json", "binary")), draw.random() < 0.3
        tasks = draw.choices(list(TASKS), [6, *[1] * (len(TASKS) - 1)], k=draw.randint(1, 6))
        statuses = [TASKS[task] for task in tasks]
        if direct:
            kind = draw.choice(("good", *self._forged()))
            grants = [granted([ALLOWED])[HEADER]] if kind == "good" else self._forged()[kind]
            where = draw.choice(("header", "body"))
            pairs = list(zip(_spelt(draw, over, where), grants, strict=False))
            sent = {"headers": pairs, "parameters": []} if where == "header" else {"headers": [], "parameters": pairs}
            return Attempt(over, True, tasks, **sent, expected=statuses if kind == "good" else REFUSED, kind=kind)
        token, forged = draw.choice(("one", "one", "one", *self.tokens)), draw.choice(("none", *self._forged()))
        where = draw.choice(("header", "body"))
        pairs = list(zip(_spelt(draw, over, where), self._forged().get(forged, []), strict=False))
        doubled = where == "body" and bool(pairs)
        good = token == "one" and not doubled
        return Attempt(
            over,
            False,
            tasks,
            [*bearer(self.tokens[token]).items(), *(pairs if where == "header" else [])],
            pairs if where == "body" else [],
            statuses if good else REFUSED,
            f"token {token}, {forged} in the {where}",
        )

    def send(self, attempt: Attempt) -> list[str]:
        """Return the statuses of the rows, or `REFUSED`."""
        send = self._send_grpc if attempt.over == "grpc" else self._send_http
        got = send(attempt)
        self.seen[attempt.over, "refused" if got == REFUSED else "answered"] += 1
        self.seen["rows", "OK"] += got.count("OK")
        self.seen["rows", "FORBIDDEN_TASK"] += got.count("FORBIDDEN_TASK")
        return got

    def _forged(self) -> dict[str, list[str]]:
        every = granted()[HEADER]
        claims = every.rpartition(":")[0]
        return {
            "missing": [],
            "another key": [granted(key=b"x" * 32)[HEADER]],
            "expired": [granted(ends=time.time() - 1)[HEADER]],
            "changed": [every.replace(":test:", ":tests:")],
            "widened": [granted([ALLOWED])[HEADER].replace(f":{ALLOWED}:", ":*:")],
            "cut": [claims],
            "empty": [""],
            "base64": [base64.b64encode(every.encode()).decode()],
            "doubled": [granted([ALLOWED])[HEADER], every],
            "twice": [every, every],
            "key": [KEY.hex()],
        }

    def _send_grpc(self, attempt: Attempt) -> list[str]:
        request = service_pb2.ModelInferRequest(model_name="scorer")
        for name, values in (("TEXT", ["a router"] * len(attempt.tasks)), ("TASK", attempt.tasks)):
            request.inputs.add(name=name, datatype="BYTES", shape=[len(values), 1])
            request.raw_input_contents.append(_packed(values))
        for name, value in attempt.parameters:  # a map: of two, the last one stays
            request.parameters[name].string_param = value
        call = self.channels[attempt.direct].unary_unary(INFER_GRPC, lambda body: body, lambda body: body)
        try:
            answered = call(request.SerializeToString(), metadata=attempt.headers, timeout=60)
        except grpc.RpcError as error:
            assert error.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNAUTHENTICATED), error
            return REFUSED
        response = service_pb2.ModelInferResponse.FromString(answered)
        place = [output.name for output in response.outputs].index("STATUS")
        return [status.decode() for status in deserialize_bytes_tensor(response.raw_output_contents[place])]

    def _send_http(self, attempt: Attempt) -> list[str]:
        connection = self.connections[attempt.direct]
        body, size = _http_body(attempt)
        connection.putrequest("POST", INFER_HTTP)
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


@contextmanager
def attacker(repository: Path, folder: Path) -> Iterator[Attacker]:
    """Yield what sends attempts to a Triton and its front door, with a token for one task and others of no use."""
    with serving(repository, folder / "triton.log") as server:
        place = Place(folder, [backend_of(server.endpoints)])
        tokens = {"one": place.tokens.add("one", ["t-1"], 0, 1), "unknown": "smx_" + "x" * 43}
        tokens["revoked"] = place.tokens.add("revoked", ["*"], 0, 1)
        tokens["expired"] = place.tokens.add("expired", ["*"], 0, 1)
        place.expire("expired")
        place.tokens.revoke("revoked")
        with place.open():
            made = Attacker(place, server.endpoints, tokens)
            try:
                yield made
            finally:
                made.close()


def attack(made: Attacker, count: int, seed: int) -> None:
    """Send `count` attempts; every one must get exactly what it may."""
    draw = random.Random(seed)
    for number in range(count):
        attempt = made.attempt(draw)
        got = made.send(attempt)
        assert got == attempt.expected, (number, attempt)
    # The attempts prove nothing if all of them fail for another reason.
    for over in ("grpc", "json", "binary"):
        assert made.seen[over, "answered"] > count // 20 and made.seen[over, "refused"] > count // 20
    assert made.seen["rows", "OK"] > count // 10 and made.seen["rows", "FORBIDDEN_TASK"] > count // 10


def _spelt(draw: random.Random, over: str, where: str) -> list[str]:
    """Return how a grant's name, and that of a second one, are written."""
    spellings = [HEADER, "Scoremux-Grant", "SCOREMUX-GRANT", "scoremux-GRANT"]
    if over != "grpc":
        return draw.choices(spellings, k=2)
    # In HTTP/2 headers are in lower case; in the message the parameters are a map, with each name once.
    return [HEADER] * 2 if where == "header" else draw.sample(spellings, 2)


def _packed(values: Sequence[str]) -> Any:
    return serialize_byte_tensor(np.array([value.encode() for value in values], dtype=np.object_)).item()


def _http_body(attempt: Attempt) -> tuple[bytes, int]:
    """Return a request's body, and the size of the JSON in it. A name may come twice among its parameters."""
    columns = {"TEXT": ["a router"] * len(attempt.tasks), "TASK": attempt.tasks}
    inputs, tail = [], b""
    for name, values in columns.items():
        tensor: dict[str, Any] = {"name": name, "datatype": "BYTES", "shape": [len(values), 1]}
        if attempt.over == "json":
            tensor["data"] = values
        else:
            packed = _packed(values)
            tensor["parameters"] = {"binary_data_size": len(packed)}
            tail += packed
        inputs.append(tensor)
    pairs = ",".join(f"{json.dumps(name)}:{json.dumps(value)}" for name, value in attempt.parameters)
    rest = json.dumps({"inputs": inputs, "outputs": [{"name": "STATUS"}]})[1:]
    header = f'{{"parameters":{{{pairs}}},{rest}'.encode()
    return header + tail, len(header)
