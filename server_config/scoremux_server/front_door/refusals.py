"""How the front door says no: one answer for gRPC, one for HTTP, and a word in the log for each reason."""

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
        # gRPC's own words for it, which tell clients from a server that is merely busy.
        "SIZE": Refusal(413, 8, f"the request is larger than max ({request_bytes} bytes): send fewer rows at once"),
        "RATE": Refusal(429, 8, "the rate of %[var(txn.rate)] rows a second is used up: send again later"),
        "UNREADABLE": Refusal(400, 3, "the front door cannot read the request: %[var(txn.reason)]"),
        "TASK": Refusal(403, 7, "a row names a task that the token may not score"),
    }


def expand(text: str, known: dict[str, Refusal]) -> str:
    """Return haproxy.cfg with every `refuse` line written out."""
    return _RULE.sub(lambda rule: _lines(known[rule[1]], rule[1].lower(), f"{rule[2]} {rule[3]}"), text)


def _lines(refusal: Refusal, reason: str, condition: str) -> str:
    body = json.dumps(json.dumps({"error": refusal.sentence}))
    refused = "{ var(txn.refused) -m found }"
    return "\n".join(
        [
            f"    http-request set-var(txn.refused) str({reason}) {condition}",
            f"    http-request return status 200 hdr grpc-status {refusal.grpc} "
            f'hdr grpc-message "{refusal.sentence}" if grpc {refused}',
            f"    http-request return status {refusal.http} content-type application/json "
            f"lf-string {body} if {refused}",
        ]
    )
