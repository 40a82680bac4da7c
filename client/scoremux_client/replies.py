"""What a server's refusal means: gRPC's and Triton's codes and sentences → errors of ours."""

from __future__ import annotations

import re

from scoremux_client.errors import (
    BusyError,
    DeadlineError,
    RejectedError,
    ServerDiedError,
    ServerDownError,
    TooLargeError,
    TransportError,
    UnavailableError,
)

_CODE_OF_HTTP = {
    408: "DEADLINE_EXCEEDED",
    429: "RESOURCE_EXHAUSTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}

_DIED = re.compile(r"Stub process .*is not healthy|died with the request|RST_STREAM with error code 7", re.DOTALL)
"""Triton says the first with code INTERNAL, and goes on saying that the model is ready. The front door says the second
of a Triton that gave no answer, or the third, where it or the client had used its connection before."""

_DOWN = re.compile(r"onnection refused|no Triton behind the front door is ready")

_FULL = re.compile(r"maximum queue size", re.IGNORECASE)
# A model that is unloaded and loaded again has no versions meanwhile; one that never was there "is not found".
_RELOADING = re.compile(r"has no available versions|is not at ready state|Server is stopping", re.IGNORECASE)
# The transport's own failures under codes that servers use for refusals too.
_BROKEN = re.compile(r"RST_STREAM|Stream removed|GOAWAY|Socket closed|Connection reset", re.IGNORECASE)


def code_of_http(status: int) -> str:
    """Return gRPC's name for an HTTP status, as far as it matters here."""
    return _CODE_OF_HTTP.get(status, "UNKNOWN")


def kind_of(code: str, message: str) -> type[TransportError]:
    """Return the error that a code (gRPC's name of it) and a message stand for."""
    if _DIED.search(message):
        return ServerDiedError
    if _DOWN.search(message):
        return ServerDownError
    if "larger than max" in message:  # gRPC's own words, and the front door's
        return TooLargeError
    if _FULL.search(message) or code == "RESOURCE_EXHAUSTED":
        return BusyError
    if code in ("UNAVAILABLE", "CANCELLED") or _RELOADING.search(message) or _BROKEN.search(message):
        return UnavailableError
    if code == "DEADLINE_EXCEEDED" or "Deadline Exceeded" in message:
        return DeadlineError
    return RejectedError
