"""Files and folders that are whole or absent after a crash. POSIX only.

A new file lies beside its target under a name that starts with `NEW`, and appears by one rename.
"""

import ctypes
import errno
import hashlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

NEW, OLD = ".new-", ".old-"
"""How names begin that only a writer that died leaves behind."""

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


def sync(path: Path) -> None:
    """Make a file's content, or a folder's entries, durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_blocks(handle: int, blocks: Iterable[bytes]) -> str:
    """Write to an open file, durably. Return the sha256 of all blocks, in hex."""
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(block)
        rest = memoryview(block)
        while rest:
            rest = rest[os.write(handle, rest) :]
    os.fsync(handle)
    return digest.hexdigest()


def append(path: Path, data: bytes) -> None:
    """Append bytes durably."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    handle = os.open(path, flags, 0o644)
    try:
        write_blocks(handle, [data])
    finally:
        os.close(handle)


def whole_lines(path: Path) -> list[bytes]:
    """Return the lines of a file that `append` writes. Half a line at its end, which a crash left, is removed."""
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    os.truncate(path, len(whole))
    return whole.splitlines()


@contextmanager
def replacing(path: Path, mode: int | None = 0o644) -> Iterator[Path]:
    """Yield an empty file to write to; if the block ends without an error, the file replaces `path` durably.

    `path` has the old content or the new one, whole, at every moment. mode: Its permissions; None leaves them to the
    umask.
    """
    aside = path.with_name(f"{NEW}{secrets.token_hex(8)}")
    os.close(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666 if mode is None else mode))
    try:
        if mode is not None:
            aside.chmod(mode)  # whatever the umask is
        yield aside
        sync(aside)
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    sync(path.parent)


def replace_file(path: Path, blocks: Iterable[bytes], mode: int | None = 0o644) -> None:
    """Replace a file's content as `replacing` does."""
    with replacing(path, mode) as aside:
        handle = os.open(aside, os.O_WRONLY | os.O_CLOEXEC)
        try:
            write_blocks(handle, blocks)
        finally:
            os.close(handle)


@contextmanager
def replacing_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder to write to; if the block ends without an error, the folder replaces `target` durably.

    Its content becomes readable for all users: another one may serve it, and safetensors writes private files.

    `target` is the old folder or the new one, whole, at every moment. Where the file system cannot exchange two names,
    a crash between two renames leaves `target` missing until the next call. Only one process may call this at a time.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    old = target.with_name(f"{OLD}{target.name}")
    if old.exists() and not target.exists():
        old.rename(target)
    for path in target.parent.iterdir():
        if path.name.startswith((NEW, OLD)) and path.is_dir():  # a file there is another writer's
            shutil.rmtree(path)
    folder = Path(tempfile.mkdtemp(prefix=NEW, dir=target.parent))
    try:
        yield folder
        for path in (*folder.iterdir(), folder):
            path.chmod(0o755 if path.is_dir() else 0o644)
            sync(path)
        if not target.exists():
            folder.rename(target)
        elif not exchange(folder, target):
            target.rename(old)
            try:
                folder.rename(target)
            except OSError:
                old.rename(target)
                raise
        sync(target.parent)
    finally:
        for path in (folder, old) if target.exists() else (folder,):
            shutil.rmtree(path, ignore_errors=True)


def exchange(first: Path, second: Path) -> bool:
    """Exchange two names in one step, as renameat2(2) does. Return False where the system cannot."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    if renameat2(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE) == 0:
        return True
    if ctypes.get_errno() in (errno.ENOSYS, errno.EINVAL):
        return False
    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(second))
