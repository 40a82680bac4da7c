"""The lock of a store's writers."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import socket
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from scoremux_engine.errors import StoreError

PATIENCE_S = 1.0
_PAUSE_S = 0.02
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
Flock = Callable[[int, int], None]

log = logging.getLogger(__name__)


@contextmanager
def locked(path: Path, flock: Flock = fcntl.flock, patience_s: float = PATIENCE_S) -> Iterator[None]:
    """Hold an exclusive lock that the kernel lets go of when its holder dies.

    A wait of more than `patience_s` says what it waits for. Raises StoreError where the file system has no locks.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise StoreError(f"{path} is no regular file; remove it")
        try:
            _take(handle, path, flock, patience_s)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            raise StoreError(
                f"{path} cannot be locked: {error.strerror}; this file system (a network share?) has no flock. "
                "Keep the store that is written on a local disk, and sync it to where servers read it"
            ) from error
        _sign(handle)
        yield
    finally:
        os.close(handle)


def _take(handle: int, path: Path, flock: Flock, patience_s: float) -> None:
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        try:
            return flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_PAUSE_S)
    holder = os.pread(handle, 200, 0).decode(errors="replace").strip() or "another writer"
    log.warning("waiting for %s, which %s holds", path, holder)
    return flock(handle, fcntl.LOCK_EX)


def _sign(handle: int) -> None:
    """Say who holds the lock, for those who wait. The text decides nothing, so it need not be durable or whole."""
    try:
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
    except OSError:
        log.debug("the lock's holder could not be written down")
