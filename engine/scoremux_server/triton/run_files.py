"""One run of the server: its name, its temporary folder and its shared-memory regions."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
import tempfile
from pathlib import Path

from scoremux_server.errors import SetupError

SHARED_MEMORY = Path("/dev/shm")
RUN = "/tmp/scoremux-RUN"
"""Stands for a run's folder in what `--print-config` prints."""


class Run:
    """What one start of the server, or of the front door, keeps on the machine until `end`.

    The folder is kept when Triton restarts (the scorer's `run_folder`). It is locked, since systemd-tmpfiles removes
    old files but leaves locked folders alone (tmpfiles.d(5)).
    """

    def __init__(self) -> None:
        self.name = secrets.token_hex(8)
        self.shm_prefix = f"scoremux_{self.name}_"
        try:
            self.folder = Path(tempfile.gettempdir()) / f"scoremux-{self.name}"
        except OSError as error:
            raise SetupError(f"there is no folder for temporary files: {error.strerror}") from error
        self._lock = -1

    def begin(self) -> None:
        """Make the folder. Raises SetupError if it cannot."""
        try:
            self.make_folder()
        except OSError as error:
            self.end()
            raise SetupError(f"{error.filename or self.folder} cannot be made: {error.strerror}") from error

    def make_folder(self) -> None:
        """Make the folder if it is missing. Raises OSError."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        self._unlock()
        self._lock = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        if os.fstat(self._lock).st_uid != os.geteuid():
            raise PermissionError(errno.EPERM, "it belongs to another user", str(self.folder))
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(self._lock, fcntl.LOCK_SH | fcntl.LOCK_NB)

    def remove_regions(self) -> None:
        """Remove the shared memory that this run's processes left; they must have ended."""
        for region in SHARED_MEMORY.glob(f"{self.shm_prefix}*"):
            region.unlink(missing_ok=True)

    def end(self) -> None:
        """Remove regions and folder."""
        self.remove_regions()
        if self._lock >= 0:
            self._unlock()
            shutil.rmtree(self.folder, ignore_errors=True)

    def _unlock(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
