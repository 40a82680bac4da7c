"""Errors as `application/problem+json` (RFC 9457). No problem holds a student's text."""

import logging
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from scoremux_client import BusyError, DeadlineError, TransportError, UnavailableError
from scoremux_desk.errors import DatabaseError
from scoremux_files import ScoremuxError

MEDIA_TYPE = "application/problem+json"
UPDATE_S = 60
"""Retry-After of a request that fails until an operator changes something."""
_MOST_ERRORS = 10
_UNREAD = (408, 413)
"""Statuses of requests whose body is not read to its end."""
_log = logging.getLogger(__name__)


@dataclass(eq=False)
class ApiProblem(ScoremuxError):
    """An answer that is an error.

    Attributes:
        title: The kind of problem, always in the same words; `type` is made of them.
        detail: The fault of this request, and what to do.
        retry_after: Seconds after which the same request may succeed; None if it would fail again.
    """

    status: int
    title: str
    detail: str
    retry_after: int | None = None

    def __str__(self) -> str:
        return self.detail

    def body(self) -> dict[str, Any]:
        """Return the members of a `ProblemBody`."""
        kind = f"urn:scoremux:{self.title.lower().replace(' ', '-')}"
        problem = {"type": kind, "title": self.title, "status": self.status, "detail": self.detail}
        return {**problem, "retryable": self.retry_after is not None}

    def response(self) -> Response:
        """Return the HTTP answer."""
        headers = {} if self.retry_after is None else {"retry-after": str(self.retry_after)}
        if self.status in _UNREAD:
            headers["connection"] = "close"  # or the server would go on to receive the body
        return Response(orjson.dumps(self.body()), self.status, headers, MEDIA_TYPE)


class Described(BaseModel, use_attribute_docstrings=True):
    """A shape of the OpenAPI file; the docstring below a member describes it."""


class ProblemBody(Described):
    """An error (RFC 9457)."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [ApiProblem(503, "Server busy", "the queue is full", 1).body()]}
    )

    type: str
    """A URN that names the kind of problem; it does not change."""
    title: str
    status: int
    detail: str
    """What was wrong, and what to do."""
    retryable: bool
    """Whether the same request may succeed later; then there is a Retry-After."""


def declared(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return problems as FastAPI's `responses` of a route; every route can answer 422, 500 and 503."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemBody"}}}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": content}
        for status in sorted({*statuses, 401, 422, 500, 503})
    }


_PROBLEMS: dict[type[Exception], tuple[int, str, str, int | None]] = {
    DatabaseError: (503, "Database unavailable", "the database does not answer; send the request again", 2),
    BusyError: (503, "Server busy", "the scoring server's queue is full", 1),
    DeadlineError: (504, "Scoring timed out", "the scoring server did not answer in time; send fewer rows", 5),
    UnavailableError: (503, "Scoring unavailable", "the scoring server cannot be reached", 2),
    TransportError: (502, "Request refused", "the scoring server refused the request; its log says why", None),
    ClientDisconnect: (400, "Incomplete request", "the body ended too early; send it again", None),
}
"""The first one that fits counts."""


def problem_of(error: Exception) -> ApiProblem:
    """Return the answer to a request that ended with an error."""
    if isinstance(error, ApiProblem):
        return error
    for kind, problem in _PROBLEMS.items():
        if isinstance(error, kind):
            return ApiProblem(*problem)
    if isinstance(error.__cause__, OSError):  # `writing` and `reading` map it
        return ApiProblem(503, "Storage unavailable", "the API cannot use its files; its log says why", 60)
    if isinstance(error, (RequestValidationError, ValidationError)):
        return ApiProblem(422, "Invalid request", _first_errors(error.errors()))
    if isinstance(error, HTTPException):
        phrase = HTTPStatus(error.status_code).phrase
        return ApiProblem(error.status_code, phrase.capitalize(), f"{phrase.lower()}: see the OpenAPI file")
    return ApiProblem(500, "Internal error", "the API failed; its log says why")


def add_handlers(app: FastAPI) -> None:
    """Have the application answer every error with a problem."""

    async def answer(_: Request, error: Exception) -> Response:
        if isinstance(error, ScoremuxError) and not isinstance(error, (ApiProblem, TransportError)):
            _log.error("%s", error)
        response = problem_of(error).response()
        if isinstance(error, HTTPException) and error.headers:
            response.headers.update(error.headers)
        return response

    for kind in (ScoremuxError, RequestValidationError, ValidationError, HTTPException, ClientDisconnect, Exception):
        app.add_exception_handler(kind, answer)


def _first_errors(errors: Any) -> str:
    # Neither the input nor pydantic's context, which may quote it.
    lines = [f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in errors[:_MOST_ERRORS]]
    return "; ".join(line.removeprefix(": ") for line in lines)
