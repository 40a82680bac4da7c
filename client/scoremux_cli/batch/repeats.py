"""Ids that are there more than once: found on disk, so that tens of millions of them need little memory."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from scoremux_cli.batch.durable import write_whole
from scoremux_cli.batch.parts import read_ids

Hashes = npt.NDArray[np.uint64]
LIST = "repeated-ids.jsonl"
MOST_LISTED = 10_000
_BUFFER = 1 << 20
_DRAWER_BITS = 6
"""Hashes lie in 64 files by their first bits: of 50 million, one has 6 MB."""


class Repeats:
    """Takes ids by their 64-bit hashes, which are this process's own. Two ids of 50 million share one by a chance of
    1 in 15,000; then both would be called repeated.

    ids, rows: once it is `closed`, how many ids are there more than once, and in how many rows.
    """

    def __init__(self) -> None:
        self.ids = self.rows = 0
        self._folder = TemporaryDirectory(prefix="scoremux-ids-")
        self._buffer: list[Hashes] = []
        self._buffered = 0
        self._known: Hashes = np.empty(0, np.uint64)

    def add(self, ids: Sequence[str]) -> None:
        """Take ids in."""
        self._buffer.append(_hashes(ids))
        self._buffered += len(ids)
        if self._buffered >= _BUFFER:
            self._spill()

    def close(self) -> None:
        """Find what is there more than once. No more ids may come."""
        self._spill()
        path = self._path("repeated")
        with path.open("wb") as file:
            for drawer in range(1 << _DRAWER_BITS):
                if self._path(drawer).exists():
                    found, counts = np.unique(np.fromfile(self._path(drawer), np.uint64), return_counts=True)
                    found[counts > 1].tofile(file)
                    self.ids += int((counts > 1).sum())
                    self.rows += int(counts[counts > 1].sum())
        if self.ids:
            # Drawer after drawer, they are in order; only what is looked up is read.
            self._known = np.memmap(path, np.uint64, "r")

    def among(self, ids: Sequence[str], sources: Iterable[str], lines: Iterable[int]) -> Iterator[dict[str, Any]]:
        """Yield id, source and line of the rows whose id is there more than once."""
        if not self.ids:
            return
        hashes = _hashes(ids)
        places = np.minimum(np.searchsorted(self._known, hashes), len(self._known) - 1)
        repeated = (self._known[places] == hashes).tolist()
        for id_, source, line, there in zip(ids, sources, lines, repeated, strict=True):
            if there:
                yield {"id": id_, "source": source, "line": line}

    def __enter__(self) -> Repeats:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._known = np.empty(0, np.uint64)
        self._folder.cleanup()

    def _spill(self) -> None:
        hashes = np.sort(np.concatenate([*self._buffer, np.empty(0, np.uint64)]))
        self._buffer, self._buffered = [], 0
        drawers = (hashes >> np.uint64(64 - _DRAWER_BITS)).astype(np.int64)
        ends = np.searchsorted(drawers, np.arange(1 << _DRAWER_BITS), "right")
        for drawer, part in enumerate(np.split(hashes, ends)[:-1]):
            if len(part):
                with self._path(drawer).open("ab") as file:
                    part.tofile(file)

    def _path(self, drawer: int | str) -> Path:
        return Path(self._folder.name) / str(drawer)


def list_repeats(folder: Path, repeats: Repeats) -> None:
    """Count the ids of a job's parts, and write the rows of those that repeat to `LIST`, `MOST_LISTED` at most."""
    for ids, _, _ in read_ids(folder):
        repeats.add(ids)
    repeats.close()
    (folder / LIST).unlink(missing_ok=True)
    if repeats.ids:
        rows = islice(chain.from_iterable(repeats.among(*columns) for columns in read_ids(folder)), MOST_LISTED)
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
        write_whole(folder / LIST, lambda path: path.write_bytes(lines))


def _hashes(ids: Sequence[str]) -> Hashes:
    return np.fromiter(map(hash, ids), np.int64, len(ids)).view(np.uint64)
