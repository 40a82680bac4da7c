"""Permission: a grant says which tasks a request's rows may name.

The front door knows the access token behind a request and sets the grant as a header; Triton hands the header on as
one of the request's parameters. A client may send a parameter of the same name in the body, so a grant is signed.
"""

import fnmatch
import hmac
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from scoremux_client.contract import GRANT_HEADER
from scoremux_engine.errors import GrantError
from scoremux_files.digests import read_key as read_secret

HEADER = GRANT_HEADER
KEY_BYTES = 32
"""Shortest key that is accepted."""

MOST_BYTES = 4096
"""Longest grant: servers limit the size of headers."""

NAME = r"[A-Za-z0-9._-]{1,64}"
WATCHER = "(watcher)"
"""The name in the grant of the watcher's canary. No token can have it."""

MOST_WEIGHT = 100
TASKS = r"[A-Za-z0-9._*?-]{1,128}"
"""A pattern of task ids: `*` stands for any characters, `?` for one."""

_FORMAT = "3"
_CLAIMS = re.compile(
    rf"{_FORMAT}:({NAME}|{re.escape(WATCHER)}):([0-9]{{1,12}}):([1-9][0-9]?|{MOST_WEIGHT}):({TASKS}(?:,{TASKS})*)"
)
_REMEMBERED = 1024


@dataclass(frozen=True)
class Grant:
    """The permission of one access token.

    Written as ``3:NAME:ENDS:WEIGHT:PATTERN,PATTERN:MAC``. MAC is the HMAC-SHA-256 of all before its colon, in hex.

    Attributes:
        ends: When the permission ends, in seconds since the epoch.
        tasks: Patterns of task ids, one at least.
        weight: Its part of the work beside other tokens' weights, 1…MOST_WEIGHT.
    """

    name: str
    ends: int
    tasks: tuple[str, ...]
    weight: int = 1

    def signed(self, key: bytes) -> str:
        """Return the header's value. Raises GrantError where a name or a pattern is malformed, or all are too long."""
        claims = f"{_FORMAT}:{self.name}:{self.ends}:{self.weight}:{','.join(self.tasks)}"
        grant = f"{claims}:{_mac(key, claims)}"
        if _parsed(claims) != self or len(grant) > MOST_BYTES:
            raise GrantError(f"the grant of {self.name} is malformed, or longer than {MOST_BYTES} bytes")
        return grant

    @staticmethod
    def verified(key: bytes, grant: str) -> "Grant":
        """Return a grant that `signed` wrote with the same key. Raises GrantError; says nothing about its expiry."""
        claims, _, mac = grant[: MOST_BYTES + 1].rpartition(":")
        if len(grant) > MOST_BYTES or not grant.isascii() or not hmac.compare_digest(mac, _mac(key, claims)):
            raise GrantError("the grant is not signed by the front door of this server")
        parsed = _parsed(claims)
        if parsed is None:
            text = f"the grant is of format {claims[:1]}, not {_FORMAT}: run the same version of front door and server"
            raise GrantError(text)
        return parsed

    def allows(self, task: str) -> bool:
        """Whether rows may name the task with this id."""
        return self._pattern.fullmatch(task) is not None

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        # A pattern from `fnmatch.translate` never goes back over what an earlier `*` has matched.
        return re.compile("|".join(map(fnmatch.translate, self.tasks)))


class Permissions:
    """Finds and checks the grant of each request; grants seen before are not checked again, but for their expiry."""

    def __init__(self, key: bytes, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._verified = lru_cache(_REMEMBERED)(lambda grant: Grant.verified(key, grant))

    def of(self, parameters: str) -> Grant:
        """Return the grant among a request's parameters (a JSON object). Raises GrantError unless one is valid."""
        return self.verified(_only_grant(parameters))

    def verified(self, header: str) -> Grant:
        """Return the grant in a header. Raises GrantError unless it is valid now."""
        grant = self._verified(header)
        if grant.ends <= self._clock():
            raise GrantError("the grant has expired")
        return grant


def read_key(file: Path) -> bytes:
    """Return the key of grants in a file. Raises GrantError."""
    return read_secret(file, KEY_BYTES, GrantError)


def key_id(key: bytes) -> str:
    """Return a name of a key that does not give it away."""
    return _mac(key, "scoremux key id")[:16]


def _parsed(claims: str) -> Grant | None:
    parts = _CLAIMS.fullmatch(claims)
    return Grant(parts[1], int(parts[2]), tuple(parts[4].split(",")), int(parts[3])) if parts else None


def _only_grant(parameters: str) -> str:
    try:
        # As pairs, since a dict would hide a name that comes twice. Triton keeps a header's name as it was written.
        pairs = json.loads(parameters or "{}", object_pairs_hook=list)
        grants = [value for name, value in pairs if name.casefold() == HEADER]
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise GrantError("the parameters of the request cannot be read") from error
    if not grants:
        raise GrantError("the request has no grant: send it through the front door of this server")
    if len(grants) > 1 or not isinstance(grants[0], str):
        raise GrantError("the request has more than one grant, or one that is not a string")
    return grants[0]


def _mac(key: bytes, claims: str) -> str:
    return hmac.digest(key, claims.encode(), "sha256").hex()
