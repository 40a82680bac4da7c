"""`GrpcTransport` against a real gRPC server in this process that answers as a test wants it to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import serialize_byte_tensor

from scoremux_client import (
    DeadlineError,
    GrpcTransport,
    RejectedError,
    Response,
    ScoringClient,
    TransportError,
    UnavailableError,
)

Handler = Callable[[Any, grpc.ServicerContext], Any]


class Servicer(service_pb2_grpc.GRPCInferenceServiceServicer):
    def __init__(self, handler: Handler) -> None:
        self._handler = handler

    def ModelInfer(self, request: Any, context: grpc.ServicerContext) -> Any:
        return self._handler(request, context)


@contextmanager
def listening(handler: Handler) -> Iterator[str]:
    with ThreadPoolExecutor(2) as threads:
        server = grpc.server(threads)
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Servicer(handler), server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            server.stop(None).wait()


def answer(request: Any, _context: grpc.ServicerContext) -> Any:
    """Say OK to every row, its level being 3."""
    rows = request.inputs[0].shape[0]
    columns = {
        "STATUS": ("BYTES", np.array([[b"OK"]] * rows, dtype=np.object_)),
        "LEVEL": ("INT32", np.full((rows, 1), 3, dtype=np.int32)),
        "SCORE": ("FP32", np.full((rows, 1), 0.75, dtype=np.float32)),
        "PROBABILITIES": ("FP32", np.full((rows, 4), 0.25, dtype=np.float32)),
        "VERSION": ("BYTES", np.array([[b"a" * 64]] * rows, dtype=np.object_)),
        "TOKENS": ("INT32", np.full((rows, 1), 9, dtype=np.int32)),
        "TRUNCATED": ("BOOL", np.ones((rows, 1), dtype=np.bool_)),
    }
    response = service_pb2.ModelInferResponse(model_name=request.model_name)
    for name, (datatype, array) in columns.items():
        response.outputs.add(name=name, datatype=datatype, shape=array.shape)
        raw = serialize_byte_tensor(array).item() if datatype == "BYTES" else array.tobytes()
        response.raw_output_contents.append(raw)
    return response


def aborting(code: grpc.StatusCode, message: str) -> Handler:
    def handler(_request: Any, context: grpc.ServicerContext) -> Any:
        context.abort(code, message)

    return handler


def test_a_request_goes_out_as_the_contract_says_and_its_answer_comes_back() -> None:
    seen: list[Any] = []

    def handler(request: Any, context: grpc.ServicerContext) -> Any:
        seen.append(request)
        return answer(request, context)

    with listening(handler) as url, ScoringClient(url) as client:
        first, _ = client.score([Response("t-1", "ä\0", "r1"), Response("t-1", "")])
    assert (first.level, first.score, first.tokens, first.truncated, first.id) == (3, 0.75, 9, True, "r1")
    assert seen[0].model_name == "scorer"
    assert [(i.name, i.datatype, list(i.shape)) for i in seen[0].inputs] == [
        ("TEXT", "BYTES", [2, 1]),
        ("TASK", "BYTES", [2, 1]),
    ]


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, UnavailableError),
        (grpc.StatusCode.DEADLINE_EXCEEDED, DeadlineError),
        (grpc.StatusCode.INVALID_ARGUMENT, RejectedError),
        (grpc.StatusCode.INTERNAL, RejectedError),
    ],
)
def test_a_grpc_status_becomes_an_error_of_ours(code: grpc.StatusCode, kind: type[TransportError]) -> None:
    with listening(aborting(code, "so it is")) as url, ScoringClient(url) as client:
        with pytest.raises(TransportError, match=rf"rows 0–0: {url}: so it is") as caught:
            client.score([Response("t-1", "text")])
        assert type(caught.value) is kind
        assert caught.value.__cause__ is not None


def test_where_no_server_listens_is_said() -> None:
    with listening(answer) as url:
        pass
    with ScoringClient(url) as client, pytest.raises(UnavailableError, match=url):
        client.score([Response("t-1", "text")])


def test_a_deadline_that_passes_is_told_from_a_refusal() -> None:
    release = threading.Event()

    def handler(request: Any, context: grpc.ServicerContext) -> Any:
        release.wait()
        return answer(request, context)

    with listening(handler) as url, ScoringClient(url, timeout_s=0.2) as client:
        try:
            with pytest.raises(DeadlineError):
                client.score([Response("t-1", "text")])
        finally:
            release.set()


def test_an_answer_that_cannot_be_read_is_refused_without_its_content() -> None:
    def handler(request: Any, context: grpc.ServicerContext) -> Any:
        response = answer(request, context)
        response.raw_output_contents[0] = b"secret"
        return response

    with listening(handler) as url, ScoringClient(url) as client:
        with pytest.raises(RejectedError, match="an answer that cannot be read") as caught:
            client.score([Response("t-1", "text")])
        assert "secret" not in str(caught.value)


def test_a_cancelled_future_takes_its_request_with_it() -> None:
    arrived, gone = threading.Event(), threading.Event()

    def handler(request: Any, context: grpc.ServicerContext) -> Any:
        context.add_callback(gone.set)
        arrived.set()
        gone.wait(20)
        return answer(request, context)

    inputs = {name: np.array([[b"x"]], dtype=np.object_) for name in ("TEXT", "TASK")}
    with listening(handler) as url, GrpcTransport(url) as transport:
        future = transport.submit(inputs, None)
        assert arrived.wait(20)
        assert future.cancel()
        assert gone.wait(20)


def test_a_closed_client_says_so_in_an_error_of_ours() -> None:
    with listening(answer) as url:
        client = ScoringClient(url)
        client.close()
        with pytest.raises(TransportError):
            client.score([Response("t-1", "text")])
