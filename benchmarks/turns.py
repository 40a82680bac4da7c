"""Turns on a machine that several jobs share: a lock file, held for some minutes at most."""

from __future__ import annotations

import fcntl
import time
from pathlib import Path
from types import TracebackType
from typing import IO


class Turns:
    """Holds the lock of `path` (none: nothing is locked) and lets others have it every `most_s` seconds."""

    def __init__(self, path: Path | None, most_s: float = 240.0) -> None:
        self._path, self._most_s = path, most_s
        self._file: IO[str] | None = None
        self._since = 0.0

    def __enter__(self) -> Turns:
        if self._path:
            self._file = self._path.open("a")
            self._take()
        return self

    def offer(self) -> None:
        """Let others have their turn, if this one has lasted long enough. Call it where nothing is being timed."""
        if self._file and time.monotonic() - self._since > self._most_s:
            fcntl.flock(self._file, fcntl.LOCK_UN)
            time.sleep(0.5)
            self._take()

    def _take(self) -> None:
        assert self._file
        fcntl.flock(self._file, fcntl.LOCK_EX)
        self._since = time.monotonic()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file:
            self._file.close()
