"""One run of the server: its name, its temporary folder, and the lock that says it is alive."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
import signal
import tempfile
import time
from pathlib import Path

from scoremux_server import processes
from scoremux_server.errors import SetupError
from scoremux_server.shared_memory import FOLDER, region_prefix, remove_orphans, remove_regions

_SUFFIX = ".lock"
_PREFIX = "scoremux_"
_STARTED = (processes.SERVER, processes.STUB, processes.PROXY)
_NAMES = {name[: processes.NAME_BYTES] for name in _STARTED}


class Run:
    """What one start of the server leaves on the machine while it lives.

    The lock lies beside the shared-memory regions, named after the run, and holds the path of the temporary folder. The
    kernel lets go of it when its holder dies, however that happens: a lock that can be had is a dead run's.
    The folder is locked too: systemd-tmpfiles, which removes what is old, leaves those alone (tmpfiles.d(5)).
    """

    def __init__(self) -> None:
        self._file = self._folder_file = -1
        self._choose_name()

    def begin(self) -> None:
        """Remove what dead runs left, then take the lock and make the folder. Raises SetupError where it cannot."""
        try:
            remove_dead_runs()
            remove_orphans()
            while not self._take_lock():
                self._choose_name()
            self.make_folder()
        except OSError as error:
            self.end()
            raise SetupError(f"{error.filename or self.folder} cannot be made: {error.strerror}") from error

    def make_folder(self) -> None:
        """Make the folder if it is not there (any more). Raises OSError."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        self._close_folder()
        self._folder_file = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        if os.fstat(self._folder_file).st_uid != os.geteuid():
            raise PermissionError(errno.EPERM, "it is another user's", str(self.folder))
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(self._folder_file, fcntl.LOCK_SH | fcntl.LOCK_NB)

    def remove_regions(self) -> None:
        """Remove the shared memory of processes of this run that are dead."""
        remove_regions(self.shm_prefix)

    def end(self) -> None:
        """Remove regions, folder and lock."""
        if self._file < 0:
            return
        self._close_folder()
        _remove(self.shm_prefix, self.folder, self._lock)
        os.close(self._file)
        self._file = -1

    def _close_folder(self) -> None:
        if self._folder_file >= 0:
            os.close(self._folder_file)
            self._folder_file = -1

    def _choose_name(self) -> None:
        self.name = secrets.token_hex(8)
        self.shm_prefix = region_prefix(self.name)
        try:
            self.folder = Path(tempfile.gettempdir()) / _folder_name(self.name)
        except OSError as error:
            raise SetupError(f"there is no folder for temporary files: {error.strerror}") from error
        self._lock = FOLDER / f"{_PREFIX}{self.name}{_SUFFIX}"

    def _take_lock(self) -> bool:
        self._file = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        os.write(self._file, str(self.folder).encode())
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if self._lock.exists():
                return True
        # Another start found the file before it was locked, and took it for a dead run's.
        os.close(self._file)
        self._file = -1
        return False


def _folder_name(run: str) -> str:
    return f"scoremux-{run}"


def remove_dead_runs() -> list[str]:
    """End the processes of runs whose watcher is dead, remove what they left, and return their names.

    A live run is known by its lock, and stays; so does every run of another user.
    """
    removed = []
    for lock in FOLDER.glob(f"{_PREFIX}*{_SUFFIX}"):
        try:
            file = os.open(lock, os.O_RDWR | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            if os.fstat(file).st_uid != os.geteuid():
                continue
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            name = lock.name[len(_PREFIX) : -len(_SUFFIX)]
            _end_processes((region_prefix(name), f"/{_folder_name(name)}/"))
            _remove(region_prefix(name), Path(os.read(file, 4096).decode()), lock)
            removed.append(name)
        except BlockingIOError:
            continue
        finally:
            os.close(file)
    return removed


def _end_processes(marks: tuple[str, str], patience_s: float = 5.0) -> None:
    """Kill what was started with a run's regions or folder among its arguments, and wait until it is gone.

    A server that is ending by itself is waited for too: whose it was, its arguments cannot tell any more.
    """
    every = processes.every()
    own = [pid for pid in every if _belongs(pid, marks)]
    fading = [pid for pid in every if processes.name(pid) in _NAMES and not processes.arguments(pid)]
    for pid in own:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + patience_s
    while not all(map(processes.has_ended, (*own, *fading))) and time.monotonic() < deadline:
        time.sleep(0.02)


def _belongs(pid: int, marks: tuple[str, str]) -> bool:
    words = processes.arguments(pid)
    return bool(words) and Path(words[0]).name in _STARTED and any(mark in word for word in words for mark in marks)


def _remove(prefix: str, folder: Path, lock: Path) -> None:
    remove_regions(prefix)
    # The lock's content names a folder to delete: only one that this program made for itself.
    if folder.name == _folder_name(prefix[len(_PREFIX) : -1]) and not folder.is_symlink():
        shutil.rmtree(folder, ignore_errors=True)
    lock.unlink(missing_ok=True)
