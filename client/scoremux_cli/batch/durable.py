"""Files that are whole or not there, whenever the power goes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

TEMPORARY = ".tmp"


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a file aside, and put it under its name once it is on disk. Raises OSError."""
    # A name of its own: another machine may still be at work on a part that was given to this one.
    aside = path.with_name(f".{path.name}.{uuid4().hex}{TEMPORARY}")
    write(aside)
    with aside.open("rb") as file:
        os.fsync(file.fileno())
    aside.replace(path)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Put a folder's names on disk."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
