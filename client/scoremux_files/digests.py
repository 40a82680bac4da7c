"""Reads regular files without blocking, and makes sha256 digests of files and of sets of files; reads their keys."""

import errno
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, BinaryIO, NamedTuple

from scoremux_files.errors import InputError, reading

BLOCK_BYTES = 1 << 20
KEY_BYTES = 16
"""Shortest key of keyed digests: a shorter one can be guessed."""


class Stamp(NamedTuple):
    """Figures that change whenever a file is replaced, or written in place: tools can set back mtime, never ctime."""

    inode: int
    mtime_ns: int
    ctime_ns: int
    size: int

    @classmethod
    def of(cls, status: os.stat_result) -> "Stamp":
        return cls(status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size)


def open_file(path: Path) -> BinaryIO:
    """Open a regular file for reading. Raises OSError, without blocking, for a folder, a pipe or a device."""
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return file


def read_file(path: Path, most_bytes: int) -> bytes:
    """Return a regular file's content. Raises OSError as `open_file` and `read_all`."""
    with open_file(path) as file:
        return read_all(file, most_bytes)


def read_all(file: IO[bytes], most_bytes: int) -> bytes:
    """Return the content of a file that is open. Raises OSError before it reads one that is larger than allowed."""
    if file.seek(0, os.SEEK_END) > most_bytes:
        raise OSError(errno.EFBIG, f"it is larger than {most_bytes} bytes")
    file.seek(0)
    return file.read()


def digest_of(blocks: Iterable[bytes]) -> str:
    """Return the sha256 of bytes that come in blocks, in hex."""
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(block)
    return digest.hexdigest()


def file_digest(*paths: Path) -> str:
    """Return the sha256 of a file's bytes, or of files one after the other, in hex. Raises OSError as `open_file`."""
    return digest_of(block for path in paths for block in _blocks(path))


def _blocks(path: Path) -> Iterator[bytes]:
    with open_file(path) as file:
        while block := file.read(BLOCK_BYTES):
            yield block


def set_digest(digests: Mapping[str, str]) -> str:
    """Return the sha256 of named digests: the hash of the sorted lines ``<digest>  <name>``, as sha256sum prints."""
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))
    return digest_of([lines.encode()])


def read_key(file: Path, least_bytes: int = KEY_BYTES, raises: type[Exception] = InputError) -> bytes:
    """Return the key in a file; white space around it does not count. Raises `raises` where it is too short."""
    with reading(file, raises):
        key = file.read_bytes().strip()
    if len(key) < least_bytes:
        raise raises(f"the key in {file} has {len(key)} bytes; it takes {least_bytes} at least")
    return key
