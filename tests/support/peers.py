"""Real peers for the client on loopback: a KServe server over gRPC, and a TCP proxy that treats connections badly."""

from __future__ import annotations

import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import deserialize_bytes_tensor, serialize_byte_tensor

from scoremux_client import NO_RETRIES, Response, Scored, ScoringClient

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
    """Return the texts of a request."""
    return list(deserialize_bytes_tensor(request.raw_input_contents[0]))


def answer(request: Any, _context: grpc.ServicerContext) -> Any:
    """Say OK to every row; its level is its text where that is a number, else 3."""
    texts = texts_of(request)
    rows = len(texts)
    levels = [int(text) if text.isdigit() else 3 for text in texts]
    columns = {
        "STATUS": ("BYTES", np.array([[b"OK"]] * rows, dtype=np.object_)),
        "LEVEL": ("INT32", np.array(levels, dtype=np.int32).reshape(rows, 1)),
        "SCORE": ("FP32", np.full((rows, 1), 0.75, dtype=np.float32)),
        "PROBABILITIES": ("FP32", np.full((rows, 4), 0.25, dtype=np.float32)),
        "VERSION": ("BYTES", np.array([[b"a" * 64]] * rows, dtype=np.object_)),
        "TOKENS": ("INT32", np.full((rows, 1), 9, dtype=np.int32)),
        "TRUNCATED": ("BOOL", np.ones((rows, 1), dtype=np.bool_)),
        "CONFIDENCE": ("FP32", np.full((rows, 1), 0.5, np.float32)),
        "CONDITION": ("BYTES", np.full((rows, 1), b"", np.object_)),
        "ROUTE": ("BYTES", np.full((rows, 1), b"machine", np.object_)),
        "LEVEL_RANGE": ("INT32", np.full((rows, 2), -1, np.int32)),
    }
    response = service_pb2.ModelInferResponse(model_name=request.model_name)
    for name, (datatype, array) in columns.items():
        response.outputs.add(name=name, datatype=datatype, shape=array.shape)
        raw = serialize_byte_tensor(array).item() if datatype == "BYTES" else array.tobytes()
        response.raw_output_contents.append(raw)
    return response


def unknown_task(request: Any, context: Any) -> Any:
    """Answer UNKNOWN_TASK to every row."""
    made, rows = answer(request, context), len(texts_of(request))
    names = [output.name for output in made.outputs]
    status = np.full((rows, 1), b"UNKNOWN_TASK", np.object_)
    made.raw_output_contents[names.index("STATUS")] = serialize_byte_tensor(status).item()
    made.raw_output_contents[names.index("LEVEL")] = np.full((rows, 1), -1, np.int32).tobytes()
    return made


def worrying(request: Any, context: Any) -> Any:
    """Answer as `answer`, but send texts with `unsure` to people, and let the task `danger` see some texts."""
    made, texts = answer(request, context), texts_of(request)
    tasks = list(deserialize_bytes_tensor(request.raw_input_contents[1]))
    names = [output.name for output in made.outputs]
    sure = np.array([[0.25, 0.25, 0.25, 0.25] if b"alarm" in t else [1, 0, 0, 0] for t in texts], np.float32)
    route = np.array([[b"human:LOW_CONFIDENCE" if b"unsure" in t else b"machine"] for t in texts], np.object_)
    status = [
        b"INVALID_TEXT" if task == b"danger" and b"odd" in t else b"OK" for task, t in zip(tasks, texts, strict=True)
    ]
    made.raw_output_contents[names.index("PROBABILITIES")] = sure.tobytes()
    made.raw_output_contents[names.index("ROUTE")] = serialize_byte_tensor(route).item()
    made.raw_output_contents[names.index("STATUS")] = serialize_byte_tensor(np.array(status, np.object_)).item()
    return made


def aborting(code: grpc.StatusCode, message: str) -> Handler:
    def handler(_request: Any, context: grpc.ServicerContext) -> Any:
        context.abort(code, message)

    return handler


class BadNetwork:
    """A TCP proxy to `target` (``host:port``). Each connection meets a fate, drawn anew:

    refused; or, after a random number of bytes of the answers, reset, closed, or swallowed (it stays open and nothing
    comes); or slow first and reset then. None lasts.
    """

    FATES = ("refuse", "reset", "close", "swallow", "slow")

    def __init__(self, target: str, seed: int, fates: tuple[str, ...] = FATES, most_bytes: int = 8000) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._random = random.Random(seed)
        self._fates = fates
        self._most_bytes = most_bytes
        self.met: dict[str, int] = dict.fromkeys(fates, 0)
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> str:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._start(self._accept)
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def __exit__(self, *_: object) -> None:
        # A thread in accept() is not woken by close() alone.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in list(self._sockets):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        for one in self._sockets:
            one.close()

    def _start(self, work: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                fate = self._random.choice(self._fates)
                self.met[fate] += 1
                self._sockets.add(near)
                if fate == "refuse":
                    _reset(near)
                    continue
                far = socket.create_connection(self._target)
                self._sockets.add(far)
                budget = self._random.randint(0, self._most_bytes)
                self._start(self._pump, near, far, None, "", 0.0)
                self._start(self._pump, far, near, budget, fate, 0.02 if fate == "slow" else 0.0)

    def _pump(self, source: socket.socket, sink: socket.socket, budget: int | None, fate: str, delay_s: float) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                time.sleep(delay_s)
                if budget is not None and len(data) > budget:
                    sink.sendall(data[:budget])
                    if fate == "swallow":
                        budget = 0
                        continue
                    break
                sink.sendall(data)
                budget = None if budget is None else budget - len(data)
        if fate in ("reset", "slow"):
            _reset(sink)
        for one in (source, sink):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


def _reset(one: socket.socket) -> None:
    with suppress(OSError):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    one.close()
