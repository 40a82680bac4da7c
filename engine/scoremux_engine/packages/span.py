"""A range of bytes in an open file; only regular files are opened, never links, pipes or devices."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scoremux_engine.errors import PackageError

LINK = "it is a symbolic link; copy what it points to (cp -rL)"
_BLOCK_BYTES = 1 << 20
# O_NONBLOCK: opening a FIFO without a writer would wait for ever.
_PLAIN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True)
class Span:
    """`size` bytes of the open file `fd` from `start` on. `path` names them in messages."""

    path: Path
    fd: int
    start: int
    size: int

    def read(self, offset: int, size: int) -> bytes:
        """Return `size` bytes from `offset` on. Raises PackageError where they cannot be read or are gone."""
        buffer = bytearray(size)
        self.read_into(buffer, offset)
        return bytes(buffer)

    def read_into(self, buffer: Any, offset: int) -> None:
        """Fill a writable buffer with the bytes from `offset` on. Raises PackageError as `read`."""
        view = memoryview(buffer)
        while view:
            try:
                count = os.preadv(self.fd, [view], self.start + offset)
            except OSError as error:
                raise PackageError(f"{self.path} cannot be read: {error.strerror}") from error
            if not count:
                raise PackageError(f"{self.path} was cut short while it was read")
            view, offset = view[count:], offset + count

    def read_whole(self, limit: int) -> bytes:
        """Return all bytes. Raises PackageError where there are more than `limit`, before any is read."""
        if self.size > limit:
            raise PackageError(f"{self.path} is larger than {limit} bytes")
        return self.read(0, self.size)

    def blocks(self) -> Iterator[bytes]:
        """Yield all bytes, block by block."""
        for offset in range(0, self.size, _BLOCK_BYTES):
            yield self.read(offset, min(_BLOCK_BYTES, self.size - offset))

    def digest(self) -> str:
        """Return the sha256 of the bytes, in hex."""
        digest = hashlib.sha256()
        for block in self.blocks():
            digest.update(block)
        return digest.hexdigest()


@contextmanager
def open_span(path: Path, folder: int | None = None) -> Iterator[Span]:
    """Open a whole file.

    Args:
        path: The file.
        folder: Descriptor of its folder, if that is open; only the last part of `path` counts then.

    Raises:
        FileNotFoundError: There is none.
        PackageError: It is a link, a pipe, a device or anything else than a regular file.
    """
    try:
        fd = os.open(path if folder is None else path.name, _PLAIN, dir_fd=folder)
    except FileNotFoundError:
        raise
    except OSError as error:
        why = LINK if error.errno == errno.ELOOP else error.strerror
        raise PackageError(f"{path} cannot be read: {why}") from error
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise PackageError(f"{path} cannot be read: it is no regular file")
        yield Span(path, fd, 0, status.st_size)
    finally:
        os.close(fd)


@contextmanager
def span_of(path: Path, data: bytes) -> Iterator[Span]:
    """Give bytes that are in memory as a span. `path` names them in messages."""
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        yield Span(path, file.fileno(), 0, len(data))


@contextmanager
def open_folder(path: Path) -> Iterator[int]:
    """Open a folder. Raises PackageError if it is missing, a link or no folder."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        link = error.errno in (errno.ENOTDIR, errno.ELOOP) and path.is_symlink()
        why = LINK if link else error.strerror
        raise PackageError(f"{path} cannot be read: {why}") from error
    try:
        yield fd
    finally:
        os.close(fd)
