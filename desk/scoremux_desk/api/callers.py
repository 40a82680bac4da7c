"""Who calls: the token's name and patterns, from the grant that the front door signed; and grants of the API's own."""

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import Request

from scoremux_client.contract import GRANT_HEADER
from scoremux_desk.api.problems import UPDATE_S, ApiProblem
from scoremux_engine.scoring.permission import Grant, Permissions
from scoremux_files import ScoremuxError, first_of
from scoremux_server.front_door.access_tokens import AccessTokenFile

_GRANT_S = 300
_READ_EVERY_S = 1.0
_LOCAL = "local"
"""Who everybody is without a front door."""
_BATCH_GRANT_S = 900.0
"""Validity of a batch's grant: that of a turn, and of the part at its end."""


@dataclass(frozen=True)
class Caller:
    """Who sent a request: the name of a token, which owns what it made, and what the token may do.

    grant: The header as it came, for Triton; None without a front door.
    """

    token: str
    patterns: tuple[str, ...]
    grant: str | None = None
    weight: int = 1

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
        """Return who sent a request. Raises ApiProblem (401) where the front door's grant is missing or not valid."""
        if self._permissions is None:
            return Caller(_LOCAL, ("*",))
        try:
            [header] = request.headers.getlist(GRANT_HEADER)
            grant = self._permissions.verified(header)
        except ValueError:
            raise ApiProblem(401, "No permission", "the request has no grant: send it through the front door") from None
        except ScoremuxError as error:
            raise ApiProblem(401, "No permission", str(error)) from None
        return Caller(grant.name, grant.tasks, header, grant.weight)

    def in_force(self) -> dict[str, str]:
        """Return the keys of the tokens that are in force, by name. Raises SetupError where they were never read."""
        if self._tokens is None:
            return {_LOCAL: ""}
        if time.monotonic() - self._read_at > _READ_EVERY_S:
            try:
                self._read = self._tokens.in_force()
            except ScoremuxError:  # a file that is away for a moment revokes nobody
                if not self._read:
                    raise
            self._read_at = time.monotonic()
        return {name: token.key for name, token in self._read.items() if token.ends.timestamp() > time.time()}

    def key_of(self, caller: Caller) -> str:
        """Return the key of a caller's token. Raises ApiProblem (401) where it is no longer in force."""
        if self._tokens is None:
            return ""
        try:
            return self.in_force()[caller.token]
        except KeyError:
            raise ApiProblem(401, "No permission", f"the token {caller.token} was revoked, or has expired") from None

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

    def grant_of(self, batch: Any, tasks: Iterable[str] = ()) -> str | None:
        """Return a new grant for a batch, with the patterns that its token had; None without a front door.

        Raises ApiProblem where the token was revoked, or may no longer use one of these tasks that the batch could use,
        and (503) where the tokens cannot be read now.
        """
        if self._key is None or self._tokens is None:
            return None
        try:
            token = self._tokens.in_force().get(batch.token)
        except ScoremuxError as error:
            raise ApiProblem(503, "Tokens unavailable", str(error), UPDATE_S) from error
        if token is None:
            raise ApiProblem(403, "Token revoked", f"the token {batch.token} was revoked, or has expired")
        before = Grant(batch.token, int(time.time() + _BATCH_GRANT_S), tuple(json.loads(batch.patterns)), token.weight)
        now = Caller(token.name, token.tasks)
        names = {task.partition("@")[0] for task in tasks}
        if lost := sorted(name for name in names if before.allows(name) and not now.allows(name)):
            raise ApiProblem(403, "Task not allowed", f"the token {batch.token} may no longer use {first_of(lost)}")
        return before.signed(self._key)
