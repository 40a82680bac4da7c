"""Who calls: the token's name and patterns, from the grant that the front door signed; and grants of the API's own."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fastapi import Request

from scoremux_client.contract import GRANT_HEADER
from scoremux_desk.api.problems import UPDATE_S, ApiProblem
from scoremux_engine.scoring.permission import Grant, Permissions
from scoremux_files import ScoremuxError
from scoremux_server.front_door.access_tokens import AccessTokenFile

_GRANT_S = 300
_READ_EVERY_S = 1.0
LOCAL = "local"
"""Who everybody is without a front door."""


@dataclass(frozen=True)
class Caller:
    """Who sent a request: the name of a token, and what the token may do.

    namespace: Owns the rows that the token sends.
    grant: The header as it came, for Triton; None without a front door.
    """

    token: str
    patterns: tuple[str, ...]
    grant: str | None = None
    weight: int = 1
    namespace: str = LOCAL

    def allows(self, task: str) -> bool:
        """Whether this token may name the task; `id@digest` is the task `id`."""
        return Grant(self.token, 0, self.patterns).allows(task.partition("@")[0])


class Callers:
    """Finds the caller of each request with the key that the front door signs grants with, and its file of tokens.

    Without a key everybody is `local` and may name every task.
    """

    def __init__(self, key: bytes | None, tokens: Path | None = None) -> None:
        self._key = key
        self._permissions = None if key is None else Permissions(key)
        self._tokens = AccessTokenFile(tokens) if tokens else None
        self._read: Mapping[str, Any] = {}
        self._read_at = -_READ_EVERY_S

    def of(self, request: Request) -> Caller:
        """Return who sent a request.

        Raises ApiProblem (401) where the front door's grant is missing or not valid, and as `check_in_force` does.
        """
        if self._permissions is None:
            return Caller(LOCAL, ("*",))
        try:
            [header] = request.headers.getlist(GRANT_HEADER)
            grant = self._permissions.verified(header)
        except ValueError:
            raise ApiProblem(401, "No permission", "the request has no grant: send it through the front door") from None
        except ScoremuxError as error:
            raise ApiProblem(401, "No permission", str(error)) from None
        caller = Caller(grant.name, grant.tasks, header, grant.weight, grant.name)
        self.check_in_force(caller)
        return replace(caller, namespace=getattr(self._read.get(grant.name), "namespace", None) or grant.name)

    def check_in_force(self, caller: Caller) -> None:
        """Raise ApiProblem (401) where a caller's token was revoked, or has expired, since its grant was signed."""
        if self._tokens is None:
            return
        if time.monotonic() - self._read_at > _READ_EVERY_S:
            try:
                self._read = self._tokens.in_force()
            except ScoremuxError as error:  # a file that is away for a moment revokes nobody
                if not self._read:
                    raise ApiProblem(503, "Tokens unavailable", str(error), UPDATE_S) from error
            self._read_at = time.monotonic()
        if caller.token not in self._read:
            raise ApiProblem(401, "No permission", f"the token {caller.token} was revoked, or has expired")

    def may_also_score(self, caller: Caller, task: str) -> Caller:
        """Return a caller with a grant of the API's own, for a task that the operator has each row scored for."""
        if self._key is None:
            return caller
        ends = (int(time.time() // _GRANT_S) + 2) * _GRANT_S  # the same for some minutes, as clients are kept by grant
        grant = Grant(caller.token, ends, (task,), caller.weight).signed(self._key)
        return Caller(caller.token, (task,), grant, caller.weight)

    def operator(self) -> Caller:
        """Return the API itself, which may score every task."""
        return self.may_also_score(Caller("api", ()), "*")
