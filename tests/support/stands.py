"""Front doors before backends that take everything or say where they are, and requests that are written by hand."""

import http.client
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2
from tritonclient.utils import serialize_byte_tensor

from doors import MARKED, Place, bearer
from peers import listening, running
from scoremux_server.front_door.config import Backend
from scoremux_server.profile import LOOPBACK


class Watched(BaseHTTPRequestHandler):
    """What answers HAProxy's checks as a watcher does."""

    ready = 200
    headed: Mapping[str, str] = MARKED

    def do_HEAD(self) -> None:
        self.send_response(self.ready)
        for name, value in self.headed.items():
            self.send_header(name, value)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None: ...


class Small(Watched):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(str(self.server.server_address[0]).encode())


@contextmanager
def small_backend(
    address: str = LOOPBACK, port: int = 0, ready: int = 200, headers: Mapping[str, str] = MARKED
) -> Iterator[int]:
    """Yield the port of a backend at an address of loopback; ready, headers: what it answers checks with."""
    handler = type("Handler", (Small,), {"ready": ready, "headed": headers})
    with running(ThreadingHTTPServer((address, port), handler)) as web:
        yield web.server_port


def ask(place: Place, token: str) -> tuple[int, str]:
    """Return status and body of a GET through the door: the body is the address of the backend that answered."""
    connection = http.client.HTTPSConnection("localhost", place.port, context=place.context(), timeout=60)
    try:
        connection.request("GET", "/v2/health/live", headers=dict(bearer(token)))
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


@contextmanager
def opened(folder: Path, **keys: Any) -> Iterator[Place]:
    """Yield an open door before one small backend; keys: more of door.toml."""
    with small_backend() as port:
        at = f"{LOOPBACK}:{port}"
        place = Place(folder, [Backend(name="small", grpc=at, http=at, ready=at)], **keys)
        with place.open():
            yield place


INFER = "/v2/models/scorer/infer"


class Web(ThreadingHTTPServer):
    """A backend that is ready, takes every request, and counts the bytes of what comes."""

    request_queue_size = 256
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[str] = []

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a door that hangs up


class _Handler(Watched):
    protocol_version = "HTTP/1.1"
    server: Web

    def do_POST(self) -> None:
        self.server.requests.append(self.path)
        self.rfile.read(int(self.headers["content-length"] or 0))
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    do_GET = do_POST


class Stand:
    """A door, and tokens by name."""

    def __init__(self, place: Place, web: Web, tokens: Mapping[str, str]) -> None:
        self.place, self.web, self.tokens = place, web, tokens

    def post(self, token: str, body: bytes, path: str = INFER, **headers: str) -> tuple[int, str]:
        context = self.place.context()
        connection = http.client.HTTPSConnection("localhost", self.place.port, context=context, timeout=60)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request("POST", path, body, {**bearer(self.tokens[token]), **named})
            answered = connection.getresponse()
            return answered.status, answered.read().decode()
        finally:
            connection.close()


@contextmanager
def stand(
    folder: Path, rates: Mapping[str, int] = {}, patterns: Mapping[str, str] = {}, **keys: Any
) -> Iterator[Stand]:
    def infer(_request: Any, _context: Any) -> Any:
        return service_pb2.ModelInferResponse()

    with running(Web()) as web, listening(infer, threads=8) as url:
        at = f"127.0.0.1:{web.server_port}"
        place = Place(folder, [Backend(name="peer", grpc=url, http=at, ready=at)], **keys)
        tokens = {name: place.tokens.add(name, ["t-*"], rate, 1) for name, rate in rates.items()}
        tokens |= {name: place.tokens.add(name, [pattern], 0, 1) for name, pattern in patterns.items()}
        with place.open():
            yield Stand(place, web, {**tokens, "everything": place.everything})


def rows(tasks: list[str], texts: list[str] | None = None) -> bytes:
    shape, texts = [len(tasks), 1], texts or ["a"] * len(tasks)
    columns = {"TEXT": texts, "TASK": tasks}
    inputs = [{"name": name, "datatype": "BYTES", "shape": shape, "data": data} for name, data in columns.items()]
    return json.dumps({"inputs": inputs}).encode()


def message(tasks: list[bytes], texts: list[bytes] | None = None) -> Any:
    request = service_pb2.ModelInferRequest(model_name="scorer")
    for name, values in (("TEXT", texts or [b"a"] * len(tasks)), ("TASK", tasks)):
        request.inputs.add(name=name, datatype="BYTES", shape=[len(values), 1])
        request.raw_input_contents.append(serialize_byte_tensor(np.array(values, dtype=np.object_)).item())
    return request


def send(shared: Stand, body: bytes, token: str = "ours", method: str = "ModelInfer") -> tuple[grpc.StatusCode, str]:
    roots = grpc.ssl_channel_credentials((shared.place.folder / "ca.pem").read_bytes())
    with grpc.secure_channel(f"localhost:{shared.place.port}", roots) as channel:
        call = channel.unary_unary(f"/inference.GRPCInferenceService/{method}", lambda b: b, lambda b: b)
        try:
            call(body, metadata=list(bearer(shared.tokens[token]).items()), timeout=60)
        except grpc.RpcError as error:
            return error.code(), error.details()
    return grpc.StatusCode.OK, ""


def head(token: str, method: str = "POST", path: str = INFER, more: str = "") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n{more}\r\n".encode()
