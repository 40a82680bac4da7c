"""How the front door says no, and that Triton gave no answer: one reply for gRPC, one for HTTP."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

_RULE = re.compile(r"^ *refuse ([A-Z]+) (if|unless) (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Refusal:
    """http, grpc: status codes; sentence: what the client reads, a HAProxy format that never holds what it sent."""

    http: int
    grpc: int
    sentence: str


def refusals(request_bytes: int) -> dict[str, Refusal]:
    """Return all refusals by the name that haproxy.cfg uses."""
    return {
        "TOKEN": Refusal(401, 16, "the token is missing, unknown, expired or revoked"),
        "ENDPOINT": Refusal(404, 12, "the front door does not offer this endpoint"),
        "HEADERS": Refusal(431, 8, "the headers are larger than max (16384 bytes)"),
        "ENCODING": Refusal(415, 12, "compressed requests are not accepted"),
        "LENGTH": Refusal(411, 3, "a request needs one Content-Length"),
        "BODY": Refusal(400, 3, "this request may have no body"),
        # gRPC's own words for it, which tell clients from a server that is merely busy.
        "SIZE": Refusal(413, 8, f"the request is larger than max ({request_bytes} bytes): send fewer rows at once"),
        "RATE": Refusal(429, 8, "the rate of %[var(txn.rate)] rows a second is used up: send again later"),
        "UNREADABLE": Refusal(400, 3, "the front door cannot read the request: %[var(txn.reason)]"),
        "TASK": Refusal(403, 7, "a row names a task that the token may not score"),
    }


def failures(answer_s: int) -> list[Refusal]:
    """Return what is said where HAProxy would speak for itself: in HTML, which gRPC clients cannot read at all."""
    return [
        # scoremux_client knows the first two by their words (`replies`): the first is a death.
        Refusal(502, 14, "a Triton behind the front door died with the request, or the connection to it: send again"),
        Refusal(503, 14, "no Triton behind the front door is ready: send again later"),
        Refusal(504, 4, f"no Triton behind the front door answered within {answer_s} s: send fewer rows at once"),
    ]


def lines_http(known: list[Refusal]) -> str:
    """Return the failures' lines for the backend that speaks HTTP."""
    kind = "content-type application/json lf-string"
    return "\n".join(f"    http-error status {one.http} {kind} {_json(one)}" for one in known)


def lines_grpc(known: list[Refusal]) -> str:
    """Return the failures' lines for the backend that speaks gRPC; a rule of the door makes the HTTP status 200."""
    said = ((one.http, f'hdr grpc-status {one.grpc} hdr grpc-message "{one.sentence}"') for one in known)
    return "\n".join(f"    http-error status {status} {headers}" for status, headers in said)


def expand(text: str, known: dict[str, Refusal]) -> str:
    """Return haproxy.cfg with every `refuse` line written out."""
    return _RULE.sub(lambda rule: _lines(known[rule[1]], rule[1].lower(), f"{rule[2]} {rule[3]}"), text)


def _lines(refusal: Refusal, reason: str, condition: str) -> str:
    refused = "{ var(txn.refused) -m found }"
    return "\n".join(
        [
            f"    http-request set-var(txn.refused) str({reason}) {condition}",
            f"    http-request return status 200 hdr grpc-status {refusal.grpc} "
            f'hdr grpc-message "{refusal.sentence}" if grpc {refused}',
            f"    http-request return status {refusal.http} content-type application/json "
            f"lf-string {_json(refusal)} if {refused}",
        ]
    )


def _json(refusal: Refusal) -> str:
    return json.dumps(json.dumps({"error": refusal.sentence}))
