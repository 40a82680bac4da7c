"""What a batch may do: what its token's patterns allow, as long as the token has them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from typing import Any

from scoremux_api.problems import ApiProblem
from scoremux_api.services import Settings
from scoremux_engine.scoring.permission import Grant
from scoremux_files.errors import first_of
from scoremux_server.front_door.access_tokens import TokenFile

_GRANT_S = 900.0
"""Validity of a batch's grant: that of a turn, and of the part at its end."""


class BatchGrants:
    """Signs grants for batches, after a look into the front door's file of tokens."""

    def __init__(self, settings: Settings) -> None:
        self._key, self._file = settings.key, TokenFile(settings.tokens) if settings.tokens else None

    def fresh(self, batch: Any) -> str | None:
        """Return a new grant for a batch; None without a front door. Raises ApiProblem, SetupError."""
        if self._key is None:
            return None
        before, now = self._before_and_now(batch)
        return Grant(batch.token, int(time.time() + _GRANT_S), before.tasks, now.weight).signed(self._key)

    def check(self, batch: Any, tasks: Iterable[str]) -> None:
        """Raise ApiProblem where the token was revoked, or may no longer use a task that the batch could use."""
        before, now = self._before_and_now(batch)
        names = sorted({task.partition("@")[0] for task in tasks})
        if lost := [name for name in names if before.allows(name) and not now.allows(name)]:
            raise ApiProblem(403, "Task not allowed", f"the token {batch.token} may no longer use {first_of(lost)}")

    def _before_and_now(self, batch: Any) -> tuple[Grant, Grant]:
        """Return what the token could do when it sent the batch, and what it can now."""
        before = Grant(batch.token, 0, tuple(json.loads(batch.patterns)))
        if self._file is None:
            return before, before
        for token in self._file.read():
            if token.name == batch.token and token.ends.timestamp() > time.time():
                return before, Grant(token.name, 0, token.tasks, token.weight)
        raise ApiProblem(403, "Token revoked", f"the token {batch.token} was revoked, or has expired")
