"""Who calls: the token's name and patterns, from the grant that the front door signed."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property

from fastapi import Request

from scoremux_api.problems import ApiProblem
from scoremux_engine.errors import GrantError
from scoremux_engine.scoring.permission import HEADER, Grant, Permissions

LOCAL = "local"
"""Every caller of an API without a front door."""

_GRANT_S = 300


@dataclass(frozen=True)
class Caller:
    """Who sent a request.

    Attributes:
        token: Name of the token; what it made belongs to this name.
        patterns: Patterns of the task ids that it may name.
        grant: The header as it came, for Triton; None without a front door.
        weight: Its part of the scorer's work beside other tokens.
    """

    token: str
    patterns: tuple[str, ...]
    grant: str | None = None
    weight: int = 1

    @cached_property
    def _permission(self) -> Grant:
        return Grant(self.token, 0, self.patterns)

    def allows(self, task: str) -> bool:
        """Whether this token may name the task; `id@digest` is the task `id`."""
        return self._permission.allows(task.partition("@")[0])


class Callers:
    """Finds the caller of each request. Without a key everybody is `local` and may name every task."""

    def __init__(self, key: bytes | None) -> None:
        self._key, self._permissions = key, None if key is None else Permissions(key)

    def of(self, request: Request) -> Caller:
        """Return who sent a request. Raises ApiProblem (401) where the front door's grant is missing or not valid."""
        if self._permissions is None:
            return Caller(LOCAL, ("*",))
        grants = request.headers.getlist(HEADER)
        if len(grants) != 1:
            raise _no_grant("the request has no grant: send it through the front door")
        try:
            grant = self._permissions.verified(grants[0])
        except GrantError as error:
            raise _no_grant(str(error)) from None
        return Caller(grant.name, grant.tasks, grants[0], grant.weight)

    def may_also_score(self, caller: Caller, task: str) -> Caller:
        """Return a caller with a grant of the API's own, for a task that the operator has each row scored for."""
        if self._key is None:
            return caller
        ends = (int(time.time() // _GRANT_S) + 2) * _GRANT_S  # the same for some minutes, as clients are kept by grant
        grant = Grant(caller.token, ends, (task,), caller.weight).signed(self._key)
        return Caller(caller.token, (task,), grant, caller.weight)


def _no_grant(detail: str) -> ApiProblem:
    return ApiProblem(401, "No permission", detail)
