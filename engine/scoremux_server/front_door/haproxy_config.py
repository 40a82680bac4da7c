"""haproxy.cfg and the files beside it, from the front door's configuration."""

import base64
import json
import os
import re
import string
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from scoremux_engine.scoring.permission import HEADER
from scoremux_files.atomic import replace_file
from scoremux_server.front_door.access_tokens import AccessToken
from scoremux_server.front_door.config import ANY, DOOR_HEADER, Backend, FrontDoorConfig, door_mark
from scoremux_server.front_door.haproxy import CONFIG
from scoremux_server.profile import configuration
from scoremux_server.triton.endpoints import ARITHMETIC_HEADER, bracketed

STREAMS = 8
"""Most requests that one HTTP/2 connection has in flight; further ones wait."""

ANSWER_S = 300
_HANDSHAKE_S = 5
_HEADERS_BYTES = 64 << 10
_RATE_WINDOW_S = 10
_GRANT_S = 600
"""A grant is valid for this long at least, and twice as long at most: it must not outlive a revoked token by much."""

_RETRYABLE = (429, 502, 503, 504)
_REFUSE = re.compile(r"^ *refuse ([A-Z]+) (if|unless) (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Refusal:
    """An answer of the door's own; `sentence` is a HAProxy format that never holds the client's words."""

    http: int
    grpc: int
    sentence: str

    @property
    def as_json(self) -> str:
        return json.dumps(json.dumps({"error": self.sentence}))

    @property
    def as_problem(self) -> str:
        """The answer for callers of `scoremux api` (RFC 9457), as arguments of HAProxy."""
        title = HTTPStatus(self.http).phrase
        values = {"type": "about:blank", "title": title, "status": self.http, "detail": self.sentence}
        body = json.dumps(json.dumps({**values, "retryable": self.http in _RETRYABLE}))
        retry = " hdr retry-after 1" if self.http in _RETRYABLE else ""
        return f"content-type application/problem+json lf-string {body}{retry}"


def refusals(request_bytes: int) -> dict[str, Refusal]:
    """Return all refusals by the name that haproxy.cfg uses."""
    return {
        "TOKEN": Refusal(401, 16, "the token is missing, unknown, expired or revoked"),
        "ENDPOINT": Refusal(404, 12, "the front door does not offer this endpoint"),
        "HEADERS": Refusal(431, 8, "the headers are larger than max (16384 bytes)"),
        "ENCODING": Refusal(415, 12, "compressed requests are not accepted"),
        "LENGTH": Refusal(411, 3, "a request needs one Content-Length"),
        "BODY": Refusal(400, 3, "this request may have no body"),
        "KILLER": Refusal(400, 3, "no classification of outputs, and no shape of more than 65536 elements: remove it"),
        # gRPC's own words for it, which tell clients from a server that is merely busy.
        "SIZE": Refusal(413, 8, f"the request is larger than max ({request_bytes} bytes): send fewer rows at once"),
        "RATE": Refusal(429, 8, "the rate of %[var(txn.rate)] requests a second is used up: send again later"),
    }


FAILURES = (
    # scoremux_client knows the first two by their words (`replies`): the first is a death.
    Refusal(502, 14, "a Triton behind the front door died with the request, or the connection to it: send again"),
    Refusal(503, 14, "no Triton behind the front door is ready: send again later"),
    Refusal(504, 4, f"no Triton behind the front door answered within {ANSWER_S} s: send fewer rows at once"),
)
"""Answers instead of HAProxy's own, which are HTML and unreadable for gRPC clients."""

_API_FAILURES = (
    Refusal(502, 14, "the API behind the front door died with the request, or the connection to it: send again"),
    Refusal(503, 14, "the API behind the front door is not ready: send again later"),
    Refusal(504, 4, f"the API behind the front door did not answer within {ANSWER_S} s: send fewer rows at once"),
)


def render(config: FrontDoorConfig, folder: Path, key: bytes) -> str:
    """Return haproxy.cfg for a folder with the files of `write_secrets`. key: That of the grants, for their mark."""
    one_for_all = config.connections_per_address >= config.connections  # a balancer hides the clients' addresses
    few = config.connections if one_for_all else max(2, config.connections_per_address // 16)
    expect_arithmetic, name = "", config.arithmetic
    if len(config.backends) > 1 and name != ANY:
        other = f"its arithmetic is not {name}"
        expect_arithmetic = f'    http-check expect on-error "{other}" hdr name {ARITHMETIC_HEADER} value {name}'
    values: dict[str, Any] = {
        **config.model_dump(),
        "threads": min(64, len(os.sched_getaffinity(0))),
        "streams": STREAMS,
        "answer_s": ANSWER_S,
        "handshake_s": min(_HANDSHAKE_S, config.client_s),
        "many_connections": config.connections * 3 // 4,
        "most_of_strangers": max(few, config.connections * 3 // 4),
        "many_of_strangers": config.connections // 2,
        "few_connections": few,
        "address": bracketed(config.address),
        "folder": folder,
        "killers": quoted(configuration("proxy") / "killers.lua"),
        "certificate": quoted(config.certificate) + (f" key {quoted(config.key)}" if config.key else ""),
        "grant_s": _GRANT_S,
        "longest_grant_s": 2 * _GRANT_S,
        "buffer_bytes": config.request_bytes + _HEADERS_BYTES,
        "rate_window_s": _RATE_WINDOW_S,
        "grant_header": HEADER,
        "door_header": DOOR_HEADER,
        # An unsafe Triton's mark is longer; see `door_mark`.
        "door_mark": f"{'' if config.is_open and not config.i_know else '-m beg '}{door_mark(key, safe=True)}",
        "expect_arithmetic": expect_arithmetic,
        "log_all": str(config.log_all).lower(),
        "client_ca": f" ca-file {quoted(config.client_ca)} verify required" if config.client_ca else "",
        **_servers(config.backends),
        **_failures(),
        "has_api": str(bool(config.api)).lower(),
        "api_server": f"    server api {config.api} check fall 3" if config.api else "",
    }
    text = string.Template((configuration("proxy") / CONFIG).read_text(encoding="utf-8")).substitute(values)
    answers = refusals(config.request_bytes)
    return _REFUSE.sub(lambda rule: _refusing(answers[rule[1]], rule[1].lower(), f"{rule[2]} {rule[3]}"), text)


def write_secrets(folder: Path, tokens: Iterable[AccessToken], key: bytes) -> None:
    """Write the maps of tokens and of the grants' key into a folder, for this user alone. Raises OSError."""
    lines = [f"{token.map_line()}\n".encode() for token in tokens]
    replace_file(folder / "tokens.map", lines, mode=0o600)
    replace_file(folder / "grant_key.map", [b"key ", base64.b64encode(key), b"\n"], mode=0o600)


def quoted(path: Path) -> str:
    """Return a path as a word of haproxy.cfg."""
    return '"' + re.sub(r'(["\\$])', r"\\\1", str(path)) + '"'


def _failures() -> dict[str, str]:
    """Return FAILURES for HTTP, `scoremux api` and gRPC, where a rule of the door makes their HTTP status 200."""
    http = [f"content-type application/json lf-string {failure.as_json}" for failure in FAILURES]
    grpc = [f'hdr grpc-status {failure.grpc} hdr grpc-message "{failure.sentence}"' for failure in FAILURES]
    api = [failure.as_problem for failure in _API_FAILURES]
    return {
        name: "\n".join(f"    http-error status {f.http} {answer}" for f, answer in zip(FAILURES, answers, strict=True))
        for name, answers in (("http_failures", http), ("grpc_failures", grpc), ("api_failures", api))
    }


def _servers(backends: Sequence[Backend]) -> dict[str, str]:
    lines: dict[str, list[str]] = {"grpc": [], "http": [], "ready": []}
    for backend in backends:
        tracked = f"track ready/{backend.name}"
        for proxy, address, options in (
            ("ready", backend.ready, "check"),
            ("http", backend.http, tracked),
            ("grpc", backend.grpc, f"proto h2 {tracked}"),
        ):
            lines[proxy].append(f"    server {backend.name} {address} {options}{_tls(backend, proxy)}")
    return {f"{proxy}_servers": "\n".join(servers) for proxy, servers in lines.items()}


def _tls(backend: Backend, proxy: str) -> str:
    """Return the options that encrypt what goes to a Triton, and refuse one with another name or authority."""
    if not backend.ca:
        return ""
    name = backend.verified_name
    protocols = "h2" if proxy == "grpc" else "http/1.1"
    verified = f"ssl verify required ca-file {quoted(backend.ca)} verifyhost {name} sni str({name})"
    return f" {verified} check-sni {name} alpn {protocols} ssl-min-ver TLSv1.2"


def _refusing(refusal: Refusal, reason: str, condition: str) -> str:
    refused = "{ var(txn.refused) -m found }"
    grpc = f'status 200 hdr grpc-status {refusal.grpc} hdr grpc-message "{refusal.sentence}"'
    http = f"status {refusal.http} content-type application/json lf-string {refusal.as_json}"
    return "\n".join(
        [
            f"    http-request set-var(txn.refused) str({reason}) {condition}",
            f"    http-request return {grpc} if grpc {refused}",
            f"    http-request return status {refusal.http} {refusal.as_problem} if api {refused}",
            f"    http-request return {http} if {refused}",
        ]
    )
