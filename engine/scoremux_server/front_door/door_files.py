"""The files behind a running front door: read once, and read again when they change."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from scoremux_engine.scoring.permission import KEY_BYTES, read_key
from scoremux_server.front_door.config import Backend, FrontDoorConfig

_RETRY_S = 2.0


def grant_key(config: FrontDoorConfig) -> bytes:
    """Return the key of the door's grants: the file's, or a new one. Raises GrantError."""
    return read_key(config.grant_key) if config.grant_key else secrets.token_hex(KEY_BYTES).encode()


@dataclass(frozen=True)
class Loaded:
    """What HAProxy runs with, read once: a start needs no file that may have changed. pems: files by name."""

    config: FrontDoorConfig
    backends: tuple[Backend, ...]
    pems: dict[str, bytes] = field(repr=False)

    @classmethod
    def read(cls, file: Path, own: Backend | None) -> Loaded:
        """Return what the files say now. Raises SetupError naming what is wrong or missing."""
        config = FrontDoorConfig.read(file)
        return cls(config, (*((own,) if own else ()), *config.backends), config.read_pems(file))


class Watched:
    """Files that are loaded when they change, and again every `_RETRY_S` while that fails.

    load: called with whether HAProxy runs; what it raises is reported once, and what was loaded before stays in use.
    """

    def __init__(
        self, files: Callable[[], Iterable[Path]], load: Callable[[bool], None], report: Callable[[str], None]
    ) -> None:
        self._files = files
        self._load = load
        self._report = report
        self._seen = self._look()
        self._error, self._tried = "", 0.0

    def forget(self) -> None:
        """Load again at the next look."""
        self._seen = {}

    def look(self, running: bool) -> bool:
        """Load what has changed; return whether it was loaded."""
        seen = self._look()
        if seen == self._seen and not (self._error and time.monotonic() - self._tried > _RETRY_S):
            return False
        self._seen, self._tried = seen, time.monotonic()
        try:
            self._load(running)
        except Exception as error:
            known, self._error = self._error, str(error) or type(error).__name__
            if self._error != known:
                self._report(f"the front door keeps what it has: {self._error}")
            return False
        self._error = ""
        # Other files may be named now.
        self._seen = {file: seen.get(file, stamp) for file, stamp in self._look().items()}
        return True

    def _look(self) -> dict[Path, object]:
        return {file: _stamp(file) for file in self._files()}


def _stamp(file: Path) -> object:
    """Return what changes whenever a file is written or replaced."""
    try:
        seen = file.stat()
    except OSError:
        return None
    return seen.st_mtime_ns, seen.st_ctime_ns, seen.st_size, seen.st_ino
