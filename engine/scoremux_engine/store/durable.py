"""Writes that a crash leaves either undone or done.

Files and folders are made aside, under a name that starts with one of `ASIDE`, and appear by one rename.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from scoremux_engine.digests import set_digest
from scoremux_engine.errors import PackageError
from scoremux_engine.packages.source import Spans

NEW = ".new-"
OLD = ".old-"
DAMAGED = ".damaged-"
ASIDE = (NEW, OLD, DAMAGED)
"""How names begin that only a crashed writer leaves behind."""


def sync_folder(folder: Path) -> None:
    """Make a folder's entries durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_blocks(handle: int, blocks: Iterable[bytes]) -> str:
    """Write to an open file, durably. Return the sha256 of what was written, in hex."""
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(block)
        left = memoryview(block)
        while left:
            left = left[os.write(handle, left) :]
    os.fsync(handle)
    return digest.hexdigest()


def replace_file(path: Path, blocks: Iterable[bytes], mode: int = 0o644) -> None:
    """Replace a file's content atomically and durably."""
    handle, name = tempfile.mkstemp(prefix=NEW, dir=path.parent)
    aside = Path(name)
    try:
        try:
            write_blocks(handle, blocks)
            os.fchmod(handle, mode)
        finally:
            os.close(handle)
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def append(path: Path, data: bytes) -> None:
    """Append bytes durably."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    handle = os.open(path, flags, 0o644)
    try:
        write_blocks(handle, [data])
    finally:
        os.close(handle)


def write_package(target: Path, spans: Spans, digest: str) -> None:
    """Write a package's files into a new folder that appears whole, or not at all.

    Raises PackageError where what was written is not what `digest` says: somebody changes the source meanwhile.
    """
    aside = Path(tempfile.mkdtemp(prefix=NEW, dir=target.parent))
    try:
        written = {name: _write_file(aside / name, span.blocks()) for name, span in spans.items()}
        if set_digest(written) != digest:
            raise PackageError(f"{next(iter(spans.values())).path.parent} changed while it was being added")
        aside.chmod(0o755)
        sync_folder(aside)
        aside.rename(target)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    sync_folder(target.parent)


def remove_folder(folder: Path) -> None:
    """Remove a folder: it is gone whole at once, and its content after that."""
    aside = Path(tempfile.mkdtemp(prefix=OLD, dir=folder.parent))
    folder.rename(aside)  # onto an empty folder
    shutil.rmtree(aside)


def _write_file(path: Path, blocks: Iterable[bytes]) -> str:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        return write_blocks(handle, blocks)
    finally:
        os.close(handle)
