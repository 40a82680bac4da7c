"""Where the files of a package come from."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from scoremux_engine.errors import PackageError
from scoremux_engine.packages.span import Span, open_folder, open_span, span_of
from scoremux_files.digests import set_digest

TASK_JSON = "task.json"
CONFIG_JSON = "adapter_config.json"
TENSORS = "adapter_model.safetensors"
DECISION_JSON = "decision.json"
CARD = "card.md"
FILES = (TASK_JSON, CONFIG_JSON, TENSORS)
OPTIONAL = (DECISION_JSON, CARD)
"""Files that a package may have besides; they are part of its digest, and no score depends on `card.md`."""

MAX_CARD_BYTES = 1 << 20

Spans = dict[str, Span]


class Source(Protocol):
    """Opens the files of one package by name. `path` names the package in messages."""

    @property
    def path(self) -> Path: ...

    def spans(self) -> AbstractContextManager[Spans]: ...


@dataclass(frozen=True)
class Folder:
    """A package in a folder of its own; other files there are no part of it.

    task_json: stands for the file of that name, where it is given.
    """

    path: Path
    task_json: bytes | None = None

    @contextmanager
    def spans(self) -> Iterator[Spans]:
        """Open all files, the optional ones that are there too.

        Raises PackageError naming the first that is missing or no plain file.
        """
        with open_folder(self.path) as fd, ExitStack() as stack:
            spans = {name: self._span(name, fd) for name in FILES if name != TASK_JSON or self.task_json is None}
            if self.task_json is not None:
                spans[TASK_JSON] = span_of(self.path / TASK_JSON, self.task_json)
            spans |= {name: self._span(name, fd) for name in OPTIONAL if _has(fd, name)}
            yield {name: stack.enter_context(span) for name, span in spans.items()}

    @contextmanager
    def span(self, name: str) -> Iterator[Span]:
        """Open one file. Raises PackageError where it is missing or no plain file."""
        with open_folder(self.path) as fd, self._span(name, fd) as span:
            yield span

    @contextmanager
    def _span(self, name: str, fd: int) -> Iterator[Span]:
        with ExitStack() as stack:
            try:
                span = stack.enter_context(open_span(self.path / name, fd))
            except FileNotFoundError as error:
                if name == TENSORS:
                    raise PackageError(_why_no_tensors(self.path)) from error
                raise PackageError(f"{self.path / name} cannot be read: {error.strerror}") from error
            yield span


def _has(folder: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def spans_digest(spans: Spans) -> str:
    """Return the digest of a package's files: the sha256 of their names and bytes."""
    return set_digest({name: span.digest() for name, span in spans.items()})


def package_digest(folder: Path) -> str:
    """Return the digest of a package's files. Raises PackageError if one is missing."""
    with Folder(folder).spans() as spans:
        return spans_digest(spans)


def _why_no_tensors(folder: Path) -> str:
    for other in sorted(folder.glob("adapter_model*")):
        if other.suffix == ".bin":
            return f"{other} is a pickle file, which is never opened; save as safetensors"
        if other.name.endswith(".index.json"):
            return f"{other} belongs to a sharded adapter; save it as one {TENSORS}"
    return f"{folder / TENSORS} is missing"
