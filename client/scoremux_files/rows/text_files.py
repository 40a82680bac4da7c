"""Records of JSONL and CSV files.

This is our own code because pyarrow's readers give no line numbers, stop at the first bad row, and cannot go on from an
offset; a job needs all three.
"""

from __future__ import annotations

import csv
import json
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from scoremux_files.rows.row_layout import Layout, Place, Record

_BOM = b"\xef\xbb\xbf"
_SKIP_BYTES = 1 << 20


class Line(NamedTuple):
    """A line with its end. number: from 1; next: the offset at which it ends, in bytes; data: None if too long."""

    number: int
    next: int
    data: bytes | None


def read_lines(file: BinaryIO, offset: int, number: int, limit_bytes: int) -> Iterator[Line]:
    """Yield the lines from `offset` on, which is the start of line `number` + 1, without a byte order mark."""
    file.seek(offset)
    while data := file.readline(limit_bytes + 1):
        number += 1
        end, kept = offset + len(data), True
        while len(data) > limit_bytes or not kept:
            # The rest of a long line is read in pieces and dropped.
            kept = False
            if data.endswith(b"\n") or not (data := file.readline(_SKIP_BYTES)):
                break
            end += len(data)
        if kept and offset == 0:
            data = data.removeprefix(_BOM)
        yield Line(number, end, data if kept else None)
        offset = end


def read_jsonl(path: Path, layout: Layout, place: Place) -> Iterator[Record]:
    """Yield the records from `place` on. Blank lines are no records."""
    with path.open("rb") as file:
        for line in read_lines(file, place.offset, place.line, layout.line_bytes):
            if line.data is None or line.data.strip():
                values, reason = _parsed(line.data, layout)
                yield Record(line.number, line.next, line.number, values, reason)


def read_csv(path: Path, layout: Layout, place: Place) -> Iterator[Record]:
    """Yield the records from `place` on. Line 1 is the header; every value is text, and blank lines are no records.

    A quote that is opened and never closed costs the line it is in, not the lines after it.
    """
    with path.open("rb") as file:
        header = next(iter(_CsvRecords(read_lines(file, 0, 0, layout.line_bytes), layout)), None)
        if header is None:
            yield Record(None, 0, 0, {}, "empty: a CSV file has a header")
            return
        names, reason, _, last = header
        if reason := reason or _unfit(names, layout):
            yield Record(None, 0, 0, {}, f"header: {reason}")
            return
        offset, line = (place.offset, place.line) if place.offset else (last.next, last.number)
        for cells, reason, first, last in _CsvRecords(read_lines(file, offset, line, layout.line_bytes), layout):
            if cells or reason:
                reason = reason or _misfit(cells, len(names))
                values = {} if reason else dict(zip(names, cells, strict=True))
                yield Record(first.number, last.next, last.number, values, reason)


class _CsvRecords:
    """Cells of CSV records with their lines; takes back the lines that a bad record has swallowed."""

    def __init__(self, lines: Iterator[Line], layout: Layout) -> None:
        # Python has one such limit for the whole process. That of a line bounds it, with room for a few lines.
        csv.field_size_limit(max(csv.field_size_limit(), 2 * layout.line_bytes))
        self._lines = lines
        self._limit_bytes = layout.line_bytes
        self._again: deque[Line] = deque()
        self._taken: list[Line] = []
        self._bytes = 0

    def __iter__(self) -> Iterator[tuple[list[str], str, Line, Line]]:
        """Yield cells, or why there are none, with the first and the last line of the record."""
        reader = csv.reader(_Feed(self), strict=True)
        while True:
            self._taken, self._bytes, reason, cells = [], 0, "", []
            try:
                cells = next(reader)
            except StopIteration:
                return
            except _BadRecordError as bad:
                reason = str(bad)
            except csv.Error as error:
                reason = "a quote that is not closed" if "end of data" in str(error) else "not CSV"
            if reason and len(self._taken) > 1:
                self._again.extendleft(reversed(self._taken[1:]))
                del self._taken[1:]
            yield cells, reason, self._taken[0], self._taken[-1]

    def next_text(self) -> str:
        """Return the next line for the record being read."""
        line = self._again.popleft() if self._again else next(self._lines)
        self._taken.append(line)
        if line.data is None:
            raise _BadRecordError(f"longer than {self._limit_bytes:,} bytes")
        self._bytes += len(line.data)
        if self._bytes > self._limit_bytes and len(self._taken) > 1:
            raise _BadRecordError("a quote that is not closed")
        return line.data.decode("utf-8", "surrogateescape")


class _Feed:
    """An iterator that may go on after its end: the lines of a bad record come back."""

    def __init__(self, records: _CsvRecords) -> None:
        self._records = records

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> str:
        return self._records.next_text()


class _BadRecordError(Exception):
    """Why a record cannot be read."""


def _parsed(data: bytes | None, layout: Layout) -> tuple[dict[str, Any], str]:
    """Return the object on a line, or why there is none. Never quotes the line."""
    if data is None:
        return {}, f"longer than {layout.line_bytes:,} bytes"
    try:
        row = json.loads(data.decode())
    except UnicodeDecodeError:
        return {}, "not UTF-8"
    except (ValueError, RecursionError):
        return {}, "not JSON"
    return (row, "") if isinstance(row, dict) else ({}, "not a JSON object")


def _unfit(names: list[str], layout: Layout) -> str:
    # Only the names that were asked for are repeated: without a header, the others are a student's text.
    for name in layout.needed:
        if names.count(name) != 1:
            return f"{'no' if name not in names else 'more than one'} column {name}"
    return ""


def _misfit(cells: list[str], width: int) -> str:
    if len(cells) != width:
        return f"{len(cells)} columns, the header has {width}"
    try:
        "".join(cells).encode()
    except UnicodeEncodeError:
        return "not UTF-8"
    return ""
