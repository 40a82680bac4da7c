"""Package folders that appear whole and disappear whole, even if their writer dies."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from scoremux_engine.errors import PackageError
from scoremux_engine.packages.source import Spans
from scoremux_files.atomic import NEW, OLD, sync, write_blocks
from scoremux_files.digests import set_digest

DAMAGED = ".damaged-"
ASIDE = (NEW, OLD, DAMAGED)
"""How names begin that only a crashed writer leaves behind."""


def write_package(target: Path, spans: Spans, digest: str) -> None:
    """Write a package's files into a new folder that appears whole, or not at all.

    Args:
        target: The folder to make.
        spans: The files by name.
        digest: What `set_digest` must give for them.

    Raises:
        PackageError: The source was changed meanwhile, so the digest is another.
    """
    aside = Path(tempfile.mkdtemp(prefix=NEW, dir=target.parent))
    try:
        written = {name: _write_file(aside / name, span.blocks()) for name, span in spans.items()}
        if set_digest(written) != digest:
            raise PackageError(f"{next(iter(spans.values())).path.parent} changed while it was being added")
        aside.chmod(0o755)
        sync(aside)
        aside.rename(target)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    sync(target.parent)


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
