"""The file that a program's output goes to."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import time
from itertools import count
from pathlib import Path
from typing import BinaryIO

from scoremux_server.errors import SetupError

_READ_BYTES = 4096
_FADING_S = 3.0
"""How long a program that was killed may still have its files."""


class LogFile:
    """A log, and the one before it in `PATH.1`. Written in append mode, so that others may cut it too.

    Only a regular file is ever read or renamed: a pipe or a terminal keeps nothing, and reading it would wait for ever.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._begins_at = 0

    def begin(self) -> BinaryIO:
        """Open it, what it holds set aside. Raises SetupError where it cannot be written or is somebody's already.

        It stays locked as long as any process has what is returned as its output.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.path.is_file() and not self.path.is_symlink():
                with self.path.open("ab") as before:
                    self._lock(before)
                self.path.replace(self._before)
            output = self.path.open("ab")
            if stat.S_ISREG(os.fstat(output.fileno()).st_mode):
                self._lock(output)
            self._begins_at = os.fstat(output.fileno()).st_size
        except OSError as error:
            raise SetupError(f"the log {self.path} cannot be written: {error.strerror}; name another: --log") from error
        return output

    def head(self) -> bytes:
        """Return the first bytes since it began."""
        return self._read(self._begins_at)

    def tail(self) -> bytes:
        """Return the last bytes since it began."""
        return self._read(max(self._begins_at, self._size() - _READ_BYTES))

    def bound(self, most_bytes: int) -> None:
        """Where it is larger, keep a copy in `PATH.1` and empty it. Lines written at that very moment are lost."""
        if self._size() <= most_bytes:
            return
        self._before.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # no room for a copy is one more reason
            shutil.copyfile(self.path, self._before)
        with contextlib.suppress(OSError):
            os.truncate(self.path, 0)
        self._begins_at = 0

    @property
    def _before(self) -> Path:
        return self.path.with_name(f"{self.path.name}.1")

    def _size(self) -> int:
        try:
            seen = self.path.stat()
        except OSError:
            return 0
        return seen.st_size if stat.S_ISREG(seen.st_mode) else 0

    def _read(self, start: int) -> bytes:
        if not self._size():
            return b""
        try:
            with self.path.open("rb") as file:
                file.seek(start)
                return file.read(_READ_BYTES)
        except OSError:
            return b""

    @classmethod
    def free(cls, path: Path) -> Path:
        """Return `path`, or where a program that runs logs there, `NAME-2`, `NAME-3` … beside it."""
        numbers = count(2)
        free = path
        while cls(free)._taken():
            free = path.with_stem(f"{path.stem}-{next(numbers)}")
        return free

    def _taken(self) -> bool:
        try:
            with self.path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            pass  # nobody's yet, or not to be read
        return False

    def _lock(self, file: BinaryIO) -> None:
        deadline = time.monotonic() + _FADING_S
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    said = f"{self.path} is the log of a program that runs: give this one another with --log FILE"
                    raise SetupError(said) from error
                time.sleep(0.02)
            except OSError:
                return  # a file system without locks
