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
import numpy.typing as npt
from tritonclient.grpc import service_pb2_grpc
from tritonclient.utils import deserialize_bytes_tensor

from answers import infer_response, ok_columns
from scoremux_client import NO_RETRIES, Response, Scored, ScoringClient
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
    """Return the texts of a request."""
    return list(deserialize_bytes_tensor(request.raw_input_contents[0]))


def answer(request: Any, _context: grpc.ServicerContext) -> Any:
    """Say OK to every row; its level is its text where that is a number, else 3."""
    return infer_response(_columns(request))


def _columns(request: Any) -> dict[str, npt.NDArray[Any]]:
    return ok_columns([int(text) if text.isdigit() else 3 for text in texts_of(request)])


def unknown_task(request: Any, _context: Any) -> Any:
    """Answer UNKNOWN_TASK to every row."""
    columns = _columns(request)
    for row in range(len(columns["STATUS"])):
        _take_score(columns, row, b"UNKNOWN_TASK")
    return infer_response(columns)


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


class BadNetwork:
    """A TCP proxy to `target` (``host:port``). What happens to each connection is drawn at random:

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
