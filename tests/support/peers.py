"""Servers on loopback that speak gRPC or HTTP and answer what a test says."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar

import grpc
import numpy as np
import numpy.typing as npt
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import deserialize_bytes_tensor, serialize_byte_tensor

from held import HeldTransport
from scoremux_client import NO_RETRIES, Response, Retries, Scored, ScoringClient
from scoremux_client.contract import LEAST_PROBABILITY, NO_CONFIDENCE, NO_LEVEL

ROW = [Response("t-1", "text")]
Handler = Callable[[Any, grpc.ServicerContext], Any]


def once(url: str, **options: Any) -> list[Scored]:
    """Score `ROW` at a peer, without trying again."""
    with ScoringClient(url, retries=NO_RETRIES, **options) as client:
        return client.score(ROW)


class Servicer(service_pb2_grpc.GRPCInferenceServiceServicer):
    def __init__(self, handler: Handler) -> None:
        self._handler = handler

    def ModelInfer(self, request: Any, context: grpc.ServicerContext) -> Any:
        return self._handler(request, context)


@contextmanager
def listening(
    handler: Handler, credentials: grpc.ServerCredentials | None = None, port: int = 0, threads: int = 2
) -> Iterator[str]:
    """Serve `handler` on 127.0.0.1; yield ``host:port``."""
    with ThreadPoolExecutor(threads) as pool:
        server = grpc.server(pool)
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Servicer(handler), server)
        address = f"127.0.0.1:{port}"
        if credentials is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, credentials)
        server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            server.stop(None).wait()


def texts_of(request: Any) -> list[bytes]:
    return list(deserialize_bytes_tensor(request.raw_input_contents[0]))


def answer(request: Any, _context: grpc.ServicerContext) -> Any:
    """Say OK to every row; its level is its text where that is a number, else 3."""
    return infer_response(_columns(request))


def _columns(request: Any) -> dict[str, npt.NDArray[Any]]:
    return ok_columns([int(text) if text.isdigit() else 3 for text in texts_of(request)])


def answer_but(request: Any, _context: Any, status: bytes, takes: Callable[[bytes], bool]) -> Any:
    """Answer as `answer`, but give rows with some texts a status and no score."""
    columns = _columns(request)
    for row, text in enumerate(texts_of(request)):
        if takes(text):
            _take_score(columns, row, status)
    return infer_response(columns)


def _take_score(columns: dict[str, npt.NDArray[Any]], row: int, status: bytes) -> None:
    columns["STATUS"][row, 0], columns["LEVEL"][row, 0] = status, NO_LEVEL
    columns["CONFIDENCE"][row, 0], columns["PROBABILITIES"][row] = NO_CONFIDENCE, 0


def worrying(request: Any, _context: Any) -> Any:
    """Answer uncalibrated, but send texts with `unsure` to people, and let the task `danger` see some texts."""
    columns, texts = _columns(request), texts_of(request)
    tasks = list(deserialize_bytes_tensor(request.raw_input_contents[1]))
    columns["CONFIDENCE"][:] = NO_CONFIDENCE
    for row, (task, text) in enumerate(zip(tasks, texts, strict=True)):
        columns["PROBABILITIES"][row, :4] = 0.25 if b"alarm" in text else [1, *[LEAST_PROBABILITY] * 3]
        columns["LEVEL"][row, 0] = min(columns["LEVEL"][row, 0], 3)
        if b"unsure" in text:
            columns["ROUTE"][row, 0] = b"human:LOW_CONFIDENCE"
        if task == b"danger" and b"odd" in text:
            _take_score(columns, row, b"INVALID_TEXT")
    return infer_response(columns)


def aborting(code: grpc.StatusCode, message: str) -> Handler:
    def handler(_request: Any, context: grpc.ServicerContext) -> Any:
        context.abort(code, message)

    return handler


_TYPES = {"O": "BYTES", "i": "INT32", "f": "FP32", "b": "BOOL"}


def ok_columns(levels: Sequence[int]) -> dict[str, npt.NDArray[Any]]:
    """Return the outputs of rows with a score: of four levels, or, above, without probabilities."""

    def column(value: Any, dtype: Any) -> npt.NDArray[Any]:
        return np.full((len(levels), 1), value, dtype)

    return {
        "STATUS": column(b"OK", np.object_),
        "LEVEL": np.array(levels, np.int32).reshape(-1, 1),
        "SCORE": column(0.75, np.float32),
        "PROBABILITIES": np.array([[0.25] * 4 if level < 4 else [0] * 4 for level in levels], np.float32).reshape(
            -1, 4
        ),
        "VERSION": column(b"a" * 64, np.object_),
        "TOKENS": column(9, np.int32),
        "TRUNCATED": column(True, np.bool_),
        "CONFIDENCE": column(0.5, np.float32),
        "CONDITION": column(b"", np.object_),
        "ROUTE": column(b"machine", np.object_),
        "LEVEL_RANGE": np.full((len(levels), 2), -1, np.int32),
        "ARITHMETIC": column(b"stub", np.object_),
    }


def infer_response(columns: dict[str, npt.NDArray[Any]]) -> Any:
    """Return the message of KServe that carries these outputs."""
    response = service_pb2.ModelInferResponse(model_name="scorer")
    for name, array in columns.items():
        datatype = _TYPES[array.dtype.kind]
        response.outputs.add(name=name, datatype=datatype, shape=array.shape)
        raw = serialize_byte_tensor(array).item() if datatype == "BYTES" else array.tobytes()
        response.raw_output_contents.append(raw)
    return response


TASKS = {"t-1": [float(i) for i in range(1000)], "t-2": [0.0, 1.0]}
FAST = Retries(patience_s=60, contact_s=60, base_s=0.001, cap_s=0.01)


def fake() -> HeldTransport:
    return HeldTransport(TASKS, lambda _, text: int(text) % 1000)


def numbered(count: int) -> list[Response]:
    return [Response("t-1", str(i), f"id-{i}") for i in range(count)]


def sent(transport: HeldTransport) -> list[str]:
    return [r.text.decode() for request in transport.requests for r in request if r.task]  # type: ignore[union-attr]


_Web = TypeVar("_Web", bound=ThreadingHTTPServer)


@contextmanager
def running(web: _Web) -> Iterator[_Web]:
    """Serve in a thread; nothing is left of it afterwards."""
    thread = threading.Thread(target=web.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield web
    finally:
        web.shutdown()
        thread.join()
        web.server_close()


class HttpPeer(ThreadingHTTPServer):
    """Answers every request with `reply`, (status, headers, body); remembers the requests' headers."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.reply: tuple[int, dict[str, str], bytes] = (500, {}, b"")
        self.seen: list[dict[str, str]] = []

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
        status, headers, body = self.server.reply
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass
