"""Writes that a crash leaves either undone or done.

Files and folders are made aside, under a name that starts with one of `ASIDE`, and appear by one rename.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from scoremux_engine.digests import set_digest
from scoremux_engine.errors import PackageError
from scoremux_engine.packages.source import Spans

NEW = ".new-"
OLD = ".old-"
DAMAGED = ".damaged-"
ASIDE = (NEW, OLD, DAMAGED)
"""How names begin that only a crashed writer leaves behind."""

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


def sync_folder(folder: Path) -> None:
    """Make a folder's entries durable."""
    _sync(folder)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
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


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Give an empty folder beside `target`; where it is left without an error, it takes the place of `target`.

    `target` is the old folder or the new one, whole, at every moment. Where the file system cannot exchange two names,
    a death between two renames leaves `target` missing until the next `new_folder`. Only one process may be here.

    Raises:
        OSError: The folder cannot be made or put in place; `target` is as it was.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    before = target.with_name(f"{OLD}{target.name}")
    if before.exists() and not target.exists():
        before.rename(target)
    for left in target.parent.iterdir():
        if left.name.startswith(ASIDE):
            shutil.rmtree(left)
    folder = Path(tempfile.mkdtemp(prefix=NEW, dir=target.parent))
    try:
        yield folder
        folder.chmod(0o755)
        for path in (*folder.iterdir(), folder):
            _sync(path)
        if not target.exists():
            folder.rename(target)
        elif not exchange(folder, target):
            target.rename(before)
            try:
                folder.rename(target)
            except OSError:
                before.rename(target)
                raise
        sync_folder(target.parent)
    finally:
        for left in (folder, before) if target.exists() else (folder,):
            shutil.rmtree(left, ignore_errors=True)


def exchange(one: Path, other: Path) -> bool:
    """Exchange two names in one step, as renameat2(2) does. Return False where that is not offered."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    if renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    if ctypes.get_errno() in (errno.ENOSYS, errno.EINVAL):
        return False
    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(other))


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
