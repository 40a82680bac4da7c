"""Locks that end with their process. POSIX only."""

import errno
import fcntl
import logging
import os
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PAUSE_S = 0.02
_LOG_AFTER_S = 1.0
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)

log = logging.getLogger(__name__)


@contextmanager
def locked(path: Path, timeout_s: float | None = None) -> Iterator[None]:
    """Hold the lock of `open_lock` inside the block."""
    handle = open_lock(path, timeout_s)
    try:
        yield
    finally:
        os.close(handle)


def open_lock(path: Path, timeout_s: float | None = None, mode: int = 0o644) -> int:
    """Take an exclusive lock that lasts until the file is closed or the process ends, however it ends.

    Args:
        path: The file to lock; it is made if it is missing, and names its owner.
        timeout_s: Longest wait for another owner; None waits as long as it takes, and logs who has it.

    Returns:
        The open file's descriptor.

    Raises:
        BlockingIOError: Another process still has it.
        OSError: `path` is not a regular file, or its file system has no locks.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, mode)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EEXIST, "it is not a regular file; remove it", str(path))
        lock_handle(handle, path, timeout_s)
        with suppress(OSError):  # for those who wait; it decides nothing
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        return handle
    except BaseException:
        os.close(handle)
        raise


def lock_handle(handle: int, path: Path, timeout_s: float | None = None) -> None:
    """Lock an open file as `open_lock` does; `path` names it in messages."""
    patience_s = _LOG_AFTER_S if timeout_s is None else timeout_s
    deadline = time.monotonic() + patience_s
    try:
        while True:
            try:
                return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    break
                time.sleep(_PAUSE_S)
        if timeout_s is not None:
            raise BlockingIOError(errno.EWOULDBLOCK, f"{_owner(handle)} has locked it", str(path))
        log.warning("waiting for %s, which %s has locked", path, _owner(handle))
        return fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        why = f"{error.strerror}; this file system (a network share?) has no flock; use a local disk"
        raise OSError(error.errno, why, str(path)) from error


def _owner(handle: int) -> str:
    owner = b""
    with suppress(OSError):  # a folder has no content
        owner = os.pread(handle, 200, 0)
    return owner.decode(errors="replace").strip() or "another process"
