"""Bearer tokens: a file with their digests, and what each token may do."""

import contextlib
import hashlib
import os
import secrets
import stat
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field, field_validator

from scoremux_engine.scoring.permission import MOST_WEIGHT, NAME, TASKS
from scoremux_files.atomic import replacing
from scoremux_files.errors import reading, writing
from scoremux_files.locks import locked
from scoremux_files.settings import parse_object, validate
from scoremux_server.errors import SetupError

_SECRET_BYTES = 32
_MARK = "smx_"
"""What every token starts with, so that scanners for leaked secrets can find one."""

_PATTERNS_BYTES = 3 << 10
"""Most that a token's patterns take together: its grant travels as a header."""

Pattern = Annotated[str, Field(pattern=f"^{TASKS}$")]


class AccessToken(BaseModel, extra="forbid", frozen=True):
    """The entry of an access token in the file, without the secret itself.

    Attributes:
        name: The owner's name, which no other token of the file has.
        sha256: The token's digest in hex. A token is 256 random bits, so it cannot be guessed from a plain digest.
        tasks: Patterns of task ids, with `*` and `?` as in a shell.
        rate: Requests a second, 0 for no limit.
        weight: Its part of each server's work beside the weights of other tokens that wait too.
        namespace: Whose rows and students are its own in `scoremux api`; None: those of its name. A token that takes
            the place of another one has the other's.
    """

    name: str = Field(pattern=f"^{NAME}$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    tasks: tuple[Pattern, ...] = Field(min_length=1)
    rate: int = Field(ge=0, le=1_000_000)
    weight: int = Field(default=1, ge=1, le=MOST_WEIGHT)
    namespace: str | None = Field(default=None, pattern=f"^{NAME}$")
    created: datetime
    ends: datetime

    @field_validator("tasks")
    @classmethod
    def _fit_into_a_grant(cls, tasks: tuple[str, ...]) -> tuple[str, ...]:
        if (size := len(",".join(tasks))) > _PATTERNS_BYTES:
            raise ValueError(
                f"{size} bytes of patterns are more than {_PATTERNS_BYTES}: use fewer patterns, with more *"
            )
        return tasks

    @property
    def key(self) -> str:
        """The id of this token: another one may have its name later."""
        return self.sha256[:16]

    def map_line(self) -> str:
        """Return the token as HAProxy's map has it (see haproxy.cfg)."""
        ends = int(self.ends.timestamp())
        return f"{self.sha256} {self.rate}:{self.name}:{ends}:{self.weight}:{','.join(self.tasks)}"


class _Content(BaseModel, extra="forbid", frozen=True):
    format: Literal[1]
    tokens: tuple[AccessToken, ...]


class AccessTokenFile:
    """The tokens of one file. Every change is atomic, and writers take turns."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> tuple[AccessToken, ...]:
        """Return all tokens by name. Raises SetupError where the file is missing or damaged."""
        with reading(self.path, SetupError):
            try:
                data = self.path.read_bytes()
            except FileNotFoundError:
                # Never an empty list: a file that is away for a moment, at a redeploy, would revoke everybody.
                text = f"{self.path} is missing: put it back, or make one with `scoremux tokens add`"
                raise SetupError(text) from None
        try:
            content = parse_object(data)
            if content.get("format") != 1:
                raise SetupError(f"{self.path} is not of format 1: make new tokens with `scoremux tokens add`")
            return validate(_Content.model_validate, content).tokens
        except ValueError as error:
            raise SetupError(f"{self.path} cannot be read: {error}") from None

    def in_force(self) -> dict[str, AccessToken]:
        """Return the tokens that have not expired, by name. Raises SetupError as `read` does."""
        now = datetime.now(timezone.utc)
        return {token.name: token for token in self.read() if token.ends > now}

    def add(
        self, name: str, tasks: list[str], rate: int, days: int, *, weight: int = 1, namespace: str | None = None
    ) -> str:
        """Make a token and return it: it is stored nowhere. Raises SetupError for a wrong value or a taken name."""
        secret = _MARK + secrets.token_urlsafe(_SECRET_BYTES)
        now = datetime.now(timezone.utc).replace(microsecond=0)
        values = {"name": name, "sha256": hashlib.sha256(secret.encode()).hexdigest(), "tasks": tasks}
        limits = {"rate": rate, "weight": weight, "namespace": namespace}
        ends = now + timedelta(days=days)
        try:
            token = validate(AccessToken.model_validate, {**values, **limits, "created": now, "ends": ends})
        except ValueError as error:
            raise SetupError(str(error)) from error
        with writing(self.path, SetupError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with locked(self._lock):
                tokens = self.read() if self.path.exists() else ()
                if any(other.name == name for other in tokens):
                    raise SetupError(f"{self.path} has a token {name} already; revoke it, or choose another name")
                self._write((*tokens, token))
        return secret

    def revoke(self, name: str) -> None:
        """Forget a token. Raises SetupError where there is none of this name."""
        self.read()  # without a file there is nothing to lock either
        with writing(self.path, SetupError), locked(self._lock):
            tokens = self.read()
            left = tuple(token for token in tokens if token.name != name)
            if len(left) == len(tokens):
                names = ", ".join(token.name for token in tokens) or "none"
                raise SetupError(f"{self.path} has no token {name}; there is {names}")
            self._write(left)

    @property
    def _lock(self) -> Path:
        return self.path.with_name(f".{self.path.name}.lock")

    def _write(self, tokens: tuple[AccessToken, ...]) -> None:
        content = _Content(format=1, tokens=tuple(sorted(tokens, key=lambda token: token.name)))
        with replacing(self.path, mode=0o600) as aside:
            aside.write_text(content.model_dump_json(indent=1, exclude_none=True) + "\n", encoding="utf-8")
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
