"""Packages get into a store, and out of it, whole."""

import os
import shutil
import tempfile
from pathlib import Path

from scoremux_engine.errors import PackageError
from scoremux_engine.packages.package_files import PackageFiles
from scoremux_files.atomic import NEW, OLD, sync, write_blocks
from scoremux_files.digests import set_digest

LEFTOVERS = (NEW, OLD)


def remove_folder(folder: Path) -> None:
    """Remove a folder: its name disappears at once, its content after that."""
    aside = Path(tempfile.mkdtemp(prefix=OLD, dir=folder.parent))
    folder.rename(aside)  # onto an empty folder
    shutil.rmtree(aside)


def is_whole(folder: Path, digest: str) -> bool:
    try:
        return PackageFiles(folder).digest() == digest
    except PackageError:
        return False


def write_package(folder: Path, files: PackageFiles, digest: str) -> None:
    """Write a package's files into a new folder that appears whole, or not at all.

    Raises PackageError where they are not the version of this digest.
    """
    aside = Path(tempfile.mkdtemp(prefix=NEW, dir=folder.parent))
    try:
        written = {name: _copy(files, name, aside) for name in files.names}
        if set_digest(written) != digest:
            raise PackageError(f"{files.path} is not version {digest[:12]}: it is damaged, or was changed meanwhile")
        aside.chmod(0o755)
        sync(aside)
        aside.rename(folder)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    sync(folder.parent)


def _copy(files: PackageFiles, name: str, folder: Path) -> str:
    """Write one file durably; return its sha256."""
    handle = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        return write_blocks(handle, files.blocks(name))
    finally:
        os.close(handle)
