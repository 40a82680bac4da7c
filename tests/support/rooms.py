"""Small file systems, to fill them up."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts file systems and becomes somebody else")


@contextmanager
def mounted(folder: Path, size_bytes: int) -> Iterator[Callable[..., None]]:
    """Give a file system of this size at `folder`, and a function that mounts it again with other options."""

    def mount(*options: str) -> None:
        subprocess.run(["mount", *options, str(folder)], check=True, capture_output=True)

    folder.mkdir()
    try:
        mount("-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs")
    except (subprocess.CalledProcessError, FileNotFoundError):
        pytest.skip("file systems cannot be mounted here")
    try:
        yield mount
    finally:
        subprocess.run(["umount", str(folder)], check=True)
