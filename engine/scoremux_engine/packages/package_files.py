"""The files of a package: which there are, how they are opened, and their digest."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from scoremux_engine.errors import PackageError
from scoremux_files.digests import BLOCK_BYTES, digest_of, open_file, read_all, set_digest
from scoremux_files.errors import reading

TASK_JSON = "task.json"
CONFIG_JSON = "adapter_config.json"
TENSORS = "adapter_model.safetensors"
DECISION_JSON = "decision.json"
CARD = "card.md"
FILES = (TASK_JSON, CONFIG_JSON, TENSORS)
OPTIONAL = (DECISION_JSON, CARD)
"""Files that a package may have besides; they are part of its digest, and no score depends on `card.md`."""

MAX_TEXT_BYTES = 1 << 20
"""Largest JSON or Markdown file of a package."""


Opener = Callable[[], IO[bytes]]


@dataclass(frozen=True)
class PackageFiles:
    """The files of one package, in a folder or, replaced, in memory.

    Attributes:
        path: Names the package in messages.
        openers: What opens each file, by name.
    """

    path: Path
    openers: Mapping[str, Opener]

    @classmethod
    def of(cls, folder: Path) -> PackageFiles:
        """Return the files of a package in a folder; other files there are not part of it."""
        names = [*FILES, *(name for name in OPTIONAL if os.path.lexists(folder / name))]
        return cls(folder, {name: partial(open_file, folder / name) for name in names})

    def replace(self, name: str, content: bytes) -> PackageFiles:
        """Return the same files with another content of one."""
        return PackageFiles(self.path, {**self.openers, name: partial(io.BytesIO, content)})

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """Open one file. Raises PackageError where it is missing, not a regular file, or cannot be read."""
        path = self.path / name
        with reading(path, PackageError):
            try:
                file = self.openers[name]()
            except FileNotFoundError as error:
                raise PackageError(_why_missing(path)) from error
            with file:
                yield file

    def read(self, name: str) -> bytes:
        """Return the content of a JSON or Markdown file. Raises PackageError as `open`, and where it is too large."""
        with self.open(name) as file:
            return read_all(file, MAX_TEXT_BYTES)

    def blocks(self, name: str) -> Iterator[bytes]:
        """Yield the bytes of one file, block by block. Raises PackageError as `open`."""
        with self.open(name) as file:
            yield from iter(lambda: file.read(BLOCK_BYTES), b"")

    def digest(self) -> str:
        """Return the sha256 of the files' names and bytes. Raises PackageError as `open`."""
        return set_digest({name: digest_of(self.blocks(name)) for name in self.openers})


def package_digest(folder: Path) -> str:
    """Return the digest of the package in a folder. Raises PackageError if a file is missing."""
    return PackageFiles.of(folder).digest()


def _why_missing(path: Path) -> str:
    """Return why a file that is missing cannot be replaced by what is there; pickles are never opened."""
    if path.name == TENSORS:
        for other in sorted(path.parent.glob("adapter_model*")):
            if other.suffix == ".bin":
                return f"{other} is a pickle file, which is never opened; save as safetensors"
            if other.name.endswith(".index.json"):
                return f"{other} belongs to a sharded adapter; save it as one {TENSORS}"
    return f"{path} cannot be read: No such file or directory"
