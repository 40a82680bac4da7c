"""Slices of a CSV file."""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from scoremux_cli.batch.lines import Line, read_lines
from scoremux_cli.batch.slices import Layout, Place, Slice


def read_csv(path: Path, layout: Layout, place: Place) -> Iterator[Slice]:
    """Yield the slices from `place` on. Line 1 is the header; everything is text, and blank lines are no rows.

    A quote that is opened and never closed costs the line it is in, not the lines after it.
    """
    with path.open("rb") as file:
        header = _Header.read(file, layout)
        if header.reason:
            part = Slice(after=place, done=True)
            part.reject(None, header.reason)
            yield part
            return
        start = place if place.offset else Place(header.end, header.lines, place.row)
        yield from _slices(
            _Records(read_lines(file, start.offset, start.line, layout.line_bytes), layout), header, layout, start
        )


class _Records:
    """Records with their lines; feeds Python's reader and takes back the lines that a bad record swallowed."""

    def __init__(self, lines: Iterator[Line], layout: Layout) -> None:
        # Python has this limit once for a process. A line's own bounds it already, with room for a few of them.
        csv.field_size_limit(max(csv.field_size_limit(), 2 * layout.line_bytes))
        self._lines = lines
        self._limit_bytes = layout.line_bytes
        self._again: deque[Line] = deque()
        self._taken: list[Line] = []
        self._bytes = 0
        self._reader = csv.reader(_Feed(self), strict=True)

    def next_text(self) -> str:
        """Return the next line for the record being read."""
        line = self._again.popleft() if self._again else next(self._lines)
        self._taken.append(line)
        if line.data is None:
            raise _Bad(f"longer than {self._limit_bytes:,} bytes")
        self._bytes += len(line.data)
        if self._bytes > self._limit_bytes and len(self._taken) > 1:
            raise _Bad("a quote that is not closed")
        return line.data.decode("utf-8", "surrogateescape")

    def __iter__(self) -> Iterator[tuple[list[str], str, Line, Line]]:
        """Yield cells or why there are none, and the first and last line of the record."""
        while True:
            self._taken, self._bytes, reason, cells = [], 0, "", []
            try:
                cells = next(self._reader)
            except StopIteration:
                return
            except _Bad as bad:
                reason = str(bad)
            except csv.Error as error:
                reason = "a quote that is not closed" if "end of data" in str(error) else "not CSV"
            if reason and len(self._taken) > 1:
                self._again.extendleft(reversed(self._taken[1:]))
                del self._taken[1:]
            yield cells, reason, self._taken[0], self._taken[-1]


class _Feed:
    """An iterator that may go on after it ended: lines come back from records that were given up."""

    def __init__(self, records: _Records) -> None:
        self._records = records

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> str:
        return self._records.next_text()


class _Bad(Exception):
    """Why a record is given up."""


class _Header:
    """Where the columns are. reason: why the file cannot be read, or empty."""

    def __init__(self) -> None:
        self.width = self.task = self.text = self.end = self.lines = 0
        self.id: int | None = None
        self.reason = ""

    @classmethod
    def read(cls, file: BinaryIO, layout: Layout) -> _Header:
        """Read line 1. Names of columns are not repeated: without a header, they would be a student's text."""
        header = cls()
        for cells, reason, _, last in _Records(read_lines(file, 0, 0, layout.line_bytes), layout):
            header.end, header.lines, header.width = last.next, last.number, len(cells)
            if reason:
                header.reason = f"header: {reason}"
                return header
            for name in (layout.task, layout.text):
                if cells.count(name) != 1:
                    header.reason = f"header: {'no' if name not in cells else 'more than one'} column {name}"
                    return header
            header.task, header.text = cells.index(layout.task), cells.index(layout.text)
            header.id = cells.index(layout.id) if layout.id in cells else None
            return header
        header.reason = "empty: a CSV file has a header"
        return header

    def take(self, part: Slice, cells: list[str], line: Line, number: int) -> str:
        """Add a record's row to the part, or say why not."""
        if len(cells) != self.width:
            return f"{len(cells)} columns, the header has {self.width}"
        if not _is_text("".join(cells)):
            return "not UTF-8"
        given = "" if self.id is None else cells[self.id]
        part.add(given or str(number), cells[self.task], cells[self.text], line.number)
        return ""


def _is_text(value: str) -> bool:
    """Whether it has no bytes that could not be decoded."""
    try:
        return value.isascii() or bool(value.encode())
    except UnicodeEncodeError:
        return False


def _slices(records: _Records, header: _Header, layout: Layout, start: Place) -> Iterator[Slice]:
    part, rows, after = Slice(), start.row, start
    for cells, reason, first, last in records:
        if reason or cells:
            rows += 1
            reason = reason or header.take(part, cells, first, rows)
            if reason:
                part.reject(first.number, reason)
        after = Place(last.next, last.number, rows)
        if part.full(layout):
            part.after = after
            yield part
            part = Slice()
    part.after, part.done = after, True
    yield part
