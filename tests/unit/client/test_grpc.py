"""Requests and answers over gRPC: as the contract says, and every failure as an error of ours."""

import threading
from contextlib import closing
from typing import Any

import grpc
import pytest

from peers import ROW, aborting, answer, listening, once, texts_of
from scoremux_client import (
    BusyError,
    DeadlineError,
    GrpcTransport,
    RejectedError,
    Response,
    ScoringClient,
    TooLargeError,
    TransportError,
    UnavailableError,
    rows,
)


def test_a_request_goes_out_as_the_contract_says_and_its_answer_comes_back() -> None:
    seen: list[Any] = []

    def handler(request: Any, context: grpc.ServicerContext) -> Any:
        seen.append(request)
        return answer(request, context)

    with listening(handler) as url, ScoringClient(url) as client:
        first, _ = client.score([Response("t-1", "ä\0", "r1"), Response("t-1", "")])
    assert (first.level, first.score, first.tokens, first.truncated, first.id) == (3, 0.75, 9, True, "r1")
    assert seen[0].model_name == "scorer"
    assert seen[0].parameters["deadline_ms"].int64_param == 120_000 and "batch" not in seen[0].parameters
    assert [(i.name, i.datatype, list(i.shape)) for i in seen[0].inputs] == [
        ("TEXT", "BYTES", [2, 1]),
        ("TASK", "BYTES", [2, 1]),
    ]
    with listening(handler) as url, ScoringClient(url, timeout_s=None, batch=True) as client:
        client.score([Response("t-1", "")])
    assert seen[1].parameters["batch"].bool_param is True and "deadline_ms" not in seen[1].parameters


@pytest.mark.parametrize(
    ("code", "message", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, "so it is", UnavailableError),
        (grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size", BusyError),
        (grpc.StatusCode.UNAVAILABLE, "9 rows wait already: send again in 2.5 s", BusyError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "too many requests", BusyError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "Received message larger than max", TooLargeError),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "so it is", DeadlineError),
        (grpc.StatusCode.INVALID_ARGUMENT, "so it is", RejectedError),
        (grpc.StatusCode.UNAUTHENTICATED, "so it is", RejectedError),
        (grpc.StatusCode.INTERNAL, "so it is", RejectedError),
        (grpc.StatusCode.INTERNAL, "Stub process 'scorer_0_0' is not healthy.", UnavailableError),
        (grpc.StatusCode.UNAVAILABLE, "a Triton behind the front door died with the request, or", UnavailableError),
        (grpc.StatusCode.UNAVAILABLE, "no Triton behind the front door is ready: send again later", UnavailableError),
        (grpc.StatusCode.NOT_FOUND, "Request for unknown model: 'scorer' has no available versions", UnavailableError),
        (grpc.StatusCode.NOT_FOUND, "Request for unknown model: 'scorer' is not found", RejectedError),
    ],
)
def test_a_grpc_status_becomes_our_error(code: grpc.StatusCode, message: str, kind: type[TransportError]) -> None:
    with listening(aborting(code, message)) as url:
        with pytest.raises(TransportError, match=rf"row 0: {url}: {message}") as caught:
            once(url)
        assert type(caught.value) is kind
        assert caught.value.__cause__ is not None


def test_an_answer_that_cannot_be_read_is_refused_without_its_content() -> None:
    def handler(request: Any, context: grpc.ServicerContext) -> Any:
        response = answer(request, context)
        response.raw_output_contents[0] = b"secret"
        return response

    with listening(handler) as url:
        with pytest.raises(RejectedError, match="an answer that cannot be read") as caught:
            once(url)
        assert "secret" not in str(caught.value)


def test_a_cancelled_future_takes_its_request_with_it() -> None:
    arrived, gone = threading.Event(), threading.Event()

    def handler(request: Any, context: grpc.ServicerContext) -> Any:
        context.add_callback(gone.set)
        arrived.set()
        gone.wait(60)
        return answer(request, context)

    with listening(handler) as url, closing(GrpcTransport(url)) as transport:
        future = transport.submit(rows.encode(ROW), None)
        assert arrived.wait(60)
        assert not gone.is_set()
        future.cancel()
        assert gone.wait(60)


def test_headers_and_token_go_out_and_the_servers_words_are_shown_on_one_line_without_responses() -> None:
    seen: list[dict[str, str]] = []

    def handler(request: Any, context: grpc.ServicerContext) -> Any:
        seen.append(dict(context.invocation_metadata()))
        text = texts_of(request)[0].decode()
        long = "no\x1b[2J\nway " + "x" * 9999
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, long[:3000] if text == "text" else f"bad text: {text}")

    with listening(handler) as url:
        with pytest.raises(RejectedError, match=r"no \[2J way x{300}") as caught:
            once(url, token="abc", headers={"X-Course": "algebra"})
        assert (seen[0]["authorization"], seen[0]["x-course"]) == ("Bearer abc", "algebra")
        assert len(str(caught.value)) < 600
        with ScoringClient(url) as client, pytest.raises(RejectedError, match="not shown") as caught:
            client.score([Response("t-1", "the dog ate it")])
        assert "dog" not in f"{caught.value} {caught.value.__cause__}"
