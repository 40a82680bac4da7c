"""What a batch may do: what its token's patterns allow, as long as the token has them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from typing import Any

from scoremux_api.services import Settings
from scoremux_client.errors import ScoremuxError
from scoremux_engine.scoring.permission import Grant
from scoremux_files.errors import first_of
from scoremux_server.front_door.access_tokens import TokenFile

_GRANT_S = 900.0
"""Validity of a batch's grant: that of a turn, and of the part at its end."""


class RefusedError(ScoremuxError):
    """The batch's token does not allow it any more; code: for programs."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class BatchGrants:
    """Signs grants for batches, after a look into the front door's file of tokens."""

    def __init__(self, settings: Settings) -> None:
        self._key, self._file = settings.key, settings.tokens and TokenFile(settings.tokens)

    def fresh(self, batch: Any) -> str | None:
        """Return a new grant for a batch; None without a front door. Raises RefusedError, SetupError."""
        if self._key is None:
            return None
        now = self._now(batch)
        return Grant(batch.token, int(time.time() + _GRANT_S), _patterns(batch), now.weight).signed(self._key)

    def check(self, batch: Any, tasks: Iterable[str]) -> None:
        """Raise RefusedError where the token was revoked, or may no longer use a task of the batch."""
        if self._file is None:
            return
        before, now = Grant(batch.token, 0, _patterns(batch)), self._now(batch)
        names = sorted({task.partition("@")[0] for task in tasks})
        if lost := [name for name in names if before.allows(name) and not now.allows(name)]:
            raise RefusedError("task_not_allowed", f"the token {batch.token} may no longer use {first_of(lost)}")

    def _now(self, batch: Any) -> Grant:
        """Return what the batch's token may do now."""
        for token in self._file.read() if self._file else ():
            if token.name == batch.token and token.ends.timestamp() > time.time():
                return Grant(token.name, 0, token.tasks, token.weight)
        if self._file is None:
            return Grant(batch.token, 0, _patterns(batch))
        raise RefusedError("token_revoked", f"the token {batch.token} was revoked, or has expired")


def _patterns(batch: Any) -> tuple[str, ...]:
    return tuple(json.loads(batch.patterns))
