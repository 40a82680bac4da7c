"""Bearer tokens: a file with their digests, and what each token may do."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import stat
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import PydanticCustomError

from scoremux_engine.scoring.permission import NAME, TASKS, Grant
from scoremux_files.atomic import replacing
from scoremux_files.locks import locked
from scoremux_server.errors import SetupError

_SECRET_BYTES = 32
_MARK = "smx_"
"""What every token starts with, so that scanners for leaked secrets can find one."""

_PATTERNS_BYTES = 3 << 10
"""Most that a token's patterns take together: its grant travels as a header."""

Pattern = Annotated[str, Field(pattern=f"^{TASKS}$")]


class Token(BaseModel):
    """What is known of a token, which is not the token itself.

    sha256: of the token, in hex. A token is 256 random bits, so it cannot be guessed from a plain digest.
    tasks: patterns of task ids, with `*` and `?` as in a shell. rate: requests a second, 0 for no limit.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=f"^{NAME}$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    tasks: tuple[Pattern, ...] = Field(min_length=1)
    rate: int = Field(ge=0, le=1_000_000)
    created: datetime
    ends: datetime

    @field_validator("tasks")
    @classmethod
    def _fit_into_a_grant(cls, tasks: tuple[str, ...]) -> tuple[str, ...]:
        if (size := len(",".join(tasks))) > _PATTERNS_BYTES:
            text = "{size} bytes of patterns are more than {most}: use fewer patterns, with more *"
            raise PydanticCustomError("patterns", text, {"size": size, "most": _PATTERNS_BYTES})
        return tasks

    def map_line(self, key: bytes) -> str:
        """Return the token as HAProxy's map has it (see haproxy.cfg): with its grant, signed with the run's `key`."""
        grant = Grant(self.name, int(self.ends.timestamp()), self.tasks)
        return f"{self.sha256} {self.rate}:{grant.signed(key)}"


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    tokens: tuple[Token, ...] = ()


class Tokens:
    """The tokens of one file. Every change is atomic, and writers take turns."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> tuple[Token, ...]:
        """Return all tokens by name. Raises SetupError where the file is missing or damaged."""
        try:
            return _File.model_validate_json(self.path.read_bytes()).tokens
        except FileNotFoundError:
            # Never an empty list: a file that is away for a moment, at a redeploy, would revoke everybody.
            raise SetupError(f"{self.path} is missing: put it back, or make one with `scoremux tokens add`") from None
        except (OSError, ValidationError) as error:
            # None of its content: pydantic would quote it.
            said = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
            raise SetupError(f"{self.path} cannot be read: {said}") from None

    def add(self, name: str, tasks: list[str], rate: int, days: int) -> str:
        """Make a token and return it: this is the only moment it exists in full. Raises SetupError."""
        secret = _MARK + secrets.token_urlsafe(_SECRET_BYTES)
        now = datetime.now(timezone.utc).replace(microsecond=0)
        values = {
            "name": name,
            "sha256": hashlib.sha256(secret.encode()).hexdigest(),
            "tasks": tasks,
            "rate": rate,
            "created": now,
            "ends": now + timedelta(days=days),
        }
        try:
            token = Token.model_validate(values)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise SetupError(f"{first['loc'][0]}: {first['msg']}") from error
        with self._turn(make_folder=True):
            known = self.read() if self.path.exists() else ()
            if any(other.name == name for other in known):
                raise SetupError(f"{self.path} has a token {name} already; revoke it, or choose another name")
            self._write((*known, token))
        return secret

    def revoke(self, name: str) -> None:
        """Forget a token. Raises SetupError where there is none of this name."""
        self.read()  # without a file there is nothing to lock either
        with self._turn():
            known = self.read()
            left = tuple(token for token in known if token.name != name)
            if len(left) == len(known):
                names = ", ".join(token.name for token in known) or "none"
                raise SetupError(f"{self.path} has no token {name}; there is {names}")
            self._write(left)

    @contextlib.contextmanager
    def _turn(self, make_folder: bool = False) -> Iterator[None]:
        """Wait for the other writers. Raises SetupError for whatever the file system refuses meanwhile."""
        try:
            if make_folder:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            with locked(self._lock):
                yield
        except OSError as error:
            where = f": {error.filename}" if error.filename else ""
            raise SetupError(f"{self.path} cannot be written: {error.strerror or error}{where}") from error

    @property
    def _lock(self) -> Path:
        return self.path.with_name(f".{self.path.name}.lock")

    def _write(self, tokens: tuple[Token, ...]) -> None:
        made = _File(tokens=tuple(sorted(tokens, key=lambda token: token.name))).model_dump(mode="json")
        with replacing(self.path, mode=0o600) as aside:
            aside.write_bytes(json.dumps(made, indent=1).encode() + b"\n")
            with contextlib.suppress(FileNotFoundError):
                _give(aside, self.path.stat())


def _give(path: Path, like: os.stat_result) -> None:
    """Give a file the owner, group and mode of another, as far as this user may: a door may run as another user."""
    mode = stat.S_IMODE(like.st_mode)
    for owner in (like.st_uid, -1):
        with contextlib.suppress(PermissionError):
            os.chown(path, owner, like.st_gid)
            break
    else:
        mode &= ~stat.S_IRWXG  # it was another group's right
    path.chmod(mode)
