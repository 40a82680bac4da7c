"""A package's files: which there are, what each says, and their digest. Each JSON file is read once."""

import json
import os
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from scoremux_engine.errors import PackageError
from scoremux_engine.packages.adapter_config import AdapterConfig
from scoremux_engine.packages.task import Task
from scoremux_engine.packages.tensor_file import TensorFile, open_part
from scoremux_files.digests import BLOCK_BYTES, digest_of, read_all, set_digest
from scoremux_files.settings import parse_model

TASK_JSON = "task.json"
CONFIG_JSON = "adapter_config.json"
TENSORS = "adapter_model.safetensors"
DECISION_JSON = "decision.json"
CARD = "card.md"
FILES = (TASK_JSON, CONFIG_JSON, TENSORS)
TRAINED_JSON = "trained.json"
OPTIONAL = (DECISION_JSON, TRAINED_JSON, CARD)
"""Files that a package may have besides; they are part of its digest, and no score depends on the last two.

`trained.json` has digests of the rows that the adapter was trained on. Their number decides who reads responses to a
task without a calibration.
"""

MAX_TEXT_BYTES, MAX_TRAINED_BYTES = 1 << 20, 1 << 24
"""Largest JSON or Markdown file of a package, and largest `trained.json`, which has some 40 bytes a row."""


_Digests = tuple[Annotated[str, Field(pattern="^([0-9a-f]{16})?$")], ...]


class _TrainedJson(BaseModel, extra="forbid"):
    format: Literal[1, 2]
    ids: _Digests
    administrations: _Digests
    texts: _Digests
    unnamed: _Digests
    labelled: Annotated[int, Field(ge=0)] | None = None


@dataclass
class PackageFiles:
    """The files of one package, shared by all that describe, check, hash and write it; each is read when it is needed.

    Attributes:
        path: Their folder, which names the package in messages; other files there are not part of it.
        texts: The JSON and Markdown files that were read, or that take the place of the folder's.
    """

    path: Path
    texts: dict[str, bytes] = field(default_factory=dict)

    def replace(self, name: str, content: bytes) -> "PackageFiles":
        """Return the same files with another content of a JSON or Markdown file."""
        changed = copy(self)
        changed.texts = {**self.texts, name: content}
        return changed

    @property
    def names(self) -> list[str]:
        """The files that there are, or must be."""
        return [*FILES, *(name for name in OPTIONAL if name in self.texts or os.path.lexists(self.path / name))]

    @property
    def task(self) -> Task:
        """The content of `task.json`. Raises PackageError naming the key that is wrong."""
        return Task.parse(self.read(TASK_JSON), self.path / TASK_JSON)

    @property
    def config(self) -> AdapterConfig:
        """The content of `adapter_config.json`. Raises PackageError naming the key that is wrong or not supported."""
        return AdapterConfig.parse(self.read(CONFIG_JSON), self.path / CONFIG_JSON)

    @property
    def labels(self) -> int | None:
        """How many labelled rows the adapter was trained on; None without `trained.json`.

        Raises PackageError where that file is not what `scoremux train` writes.
        """
        if TRAINED_JSON not in self.names:
            return None
        try:
            digests = json.loads(self.read(TRAINED_JSON))
            if "labelled" in digests:  # beside rows that no person read
                return int(digests["labelled"])
            # One id may occur in several administrations, and several ids may have one text.
            return max(len(digests["ids"]), len(digests["texts"])) + len(digests["unnamed"])
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            path = self.path / TRAINED_JSON
            raise PackageError(f"{path}: it is not a list of digests that `scoremux train` wrote") from error

    def check_trained(self) -> None:
        """Raise PackageError where `trained.json` is not what `scoremux train` writes."""
        if TRAINED_JSON in self.names:
            try:
                parse_model(_TrainedJson, self.read(TRAINED_JSON))
            except ValueError as error:
                said = (
                    f"it is not a list of digests that `scoremux train` wrote ({error}); leave it out, or train again"
                )
                raise PackageError(f"{self.path / TRAINED_JSON}: {said}") from error

    @property
    def tensors(self) -> TensorFile:
        """The tensors. Nothing of them is kept here: headers of many adapters take much memory."""
        return TensorFile(self.path / TENSORS)

    def read(self, name: str) -> bytes:
        """Return a JSON or Markdown file. Raises PackageError where it cannot be read or is too large."""
        if name not in self.texts:
            with open_part(self.path / name) as file:
                self.texts[name] = read_all(file, MAX_TRAINED_BYTES if name == TRAINED_JSON else MAX_TEXT_BYTES)
        return self.texts[name]

    def blocks(self, name: str) -> Iterator[bytes]:
        """Yield the bytes of one file, block by block. Raises PackageError where it cannot be read."""
        if name in self.texts:
            yield self.texts[name]
        else:
            with open_part(self.path / name) as file:
                yield from iter(lambda: file.read(BLOCK_BYTES), b"")

    def digest(self) -> str:
        """Return the sha256 of the files' names and bytes. Raises PackageError as `blocks`."""
        return set_digest({name: digest_of(self.blocks(name)) for name in self.names})


def is_whole(folder: Path, digest: str) -> bool:
    """Whether a folder has the package of this digest."""
    try:
        return PackageFiles(folder).digest() == digest
    except PackageError:
        return False
