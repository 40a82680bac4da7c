"""Records of JSONL and CSV files in UTF-8.

This is our own code because pyarrow's readers give no line numbers, stop at the first bad row, and cannot start at an
offset; a job needs all three.
"""

import codecs
import csv
import json
import re
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from scoremux_files.errors import InputError, reading
from scoremux_files.rows.row_layout import FILE_START, ReadPosition, Record, RowLayout, list_columns

_FOREIGN = (
    *(codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, b"PAR1"),
    *(b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"PK\x03\x04", b"\xd0\xcf\x11\xe0"),
)
"""First bytes of files that are not text in UTF-8: UTF-16 and UTF-32, Parquet, archives and workbooks."""
NOT_UTF8 = "not UTF-8; save it as UTF-8, or convert it: iconv -f WINDOWS-1252 -t UTF-8 FILE > NEW"
NO_TEXT = "not a text file in UTF-8; unpack archives, save a workbook's sheet as CSV UTF-8, name Parquet files .parquet"
_FIRST_LINE = "the first line names columns, cells are divided by commas, semicolons or tabs, and lines end with \\n"
_BOM = codecs.BOM_UTF8
_SKIP_BYTES = 1 << 20
_OPEN_QUOTE = "a quote that is not closed"
_DELIMITERS = ",;\t"


class TextLine(NamedTuple):
    """A line with its end.

    Attributes:
        number: Number of the line, from 1.
        end: Byte at which the next line begins.
        data: Bytes of the line; None if it is too long.
    """

    number: int
    end: int
    data: bytes | None


class _CsvRecord(NamedTuple):
    """Cells of a record, or why there are none, with its first and last line."""

    cells: list[str]
    reason: str
    first: TextLine
    last: TextLine


def refuse_foreign(path: Path) -> None:
    """Refuse a file that is named as text and begins as something else. Raises InputError that says what to do."""
    with reading(path), path.open("rb") as file:
        head = file.read(8)
    if head.startswith(_FOREIGN) or b"\0" in head[:4]:
        raise InputError(f"{path}: {NO_TEXT}")


def read_lines(path: Path, limit_bytes: int, start: ReadPosition = FILE_START) -> Iterator[TextLine]:
    """Yield the lines from `start` on, without a byte order mark. A longer line is read in pieces that are dropped."""
    offset, number = start.offset, start.line
    with path.open("rb") as file:
        file.seek(offset)
        while data := file.readline(limit_bytes + 1):
            begin, number, offset, short = offset, number + 1, offset + len(data), len(data) <= limit_bytes
            rest = data
            while not short and not rest.endswith(b"\n") and (rest := file.readline(_SKIP_BYTES)):
                offset += len(rest)
            yield TextLine(number, offset, (data if begin else data.removeprefix(_BOM)) if short else None)


def read_jsonl(path: Path, layout: RowLayout, start: ReadPosition) -> Iterator[Record]:
    """Yield the records from `start` on. Blank lines are left out."""
    row = start.row
    for line in read_lines(path, layout.line_bytes, start):
        if line.data is None or line.data.strip():
            row += 1
            values, reason = _parse(line.data, layout)
            yield Record(line.number, ReadPosition(line.end, line.number, row), values, reason)


def read_csv(path: Path, layout: RowLayout, start: ReadPosition) -> Iterator[Record]:
    """Yield the records from `start` on. The first is the header; every value is text; blank lines are left out.

    Cells are divided by commas, semicolons or tabs: by the one that gives all needed columns, else most columns. A
    quote that is opened and never closed costs the line it is in, not the lines after it.
    """
    # Python has one such limit for the whole process. That of a line bounds it, with room for a few lines.
    csv.field_size_limit(max(csv.field_size_limit(), 2 * layout.line_bytes))
    delimiter = _delimiter(path, layout)
    records = _CsvLines(path, FILE_START, layout, delimiter).records()
    filled = (record for record in records if "".join(record.cells).strip() or record.reason)
    header = next(filled, None)
    if header is None:
        yield Record(None, start, {}, "empty: a CSV file has a header")
        return
    names, reason, _, last = header
    if reason := reason or layout.refusal(names) or _refusal_of_repeated(names, layout):
        reason += f"; {_FIRST_LINE}" if len(names) < 3 else ""
        yield Record(None, start, {}, f"header: {reason}")
        return
    row, begin = start.row, start if start.offset else ReadPosition(last.end, last.number)
    for cells, reason, first, last in _CsvLines(path, begin, layout, delimiter).records():
        if cells or reason:
            row += 1
            reason = reason or _refusal_of_cells(cells, len(names))
            values = {} if reason else dict(zip(names, cells, strict=True))
            yield Record(first.number, ReadPosition(last.end, last.number, row), values, reason)


def _refusal_of_repeated(names: list[str], layout: RowLayout) -> str:
    """Return which column is there twice, where all are read; of columns without a name there may be several."""
    repeated = [name for name in dict.fromkeys(names) if name and names.count(name) > 1]
    return f"more than one column {list_columns(repeated)}" if repeated and layout.every_column else ""


def _delimiter(path: Path, layout: RowLayout) -> str:
    lines = read_lines(path, layout.line_bytes)
    line = next((line for line in lines if line.data is None or line.data.strip()), None)
    text = line.data.decode("utf-8", "replace").replace("\0", "").strip() if line and line.data else ""
    text = text.partition("\r")[0]
    unquoted = re.sub(r'"[^"]*"', "", text)

    def columns(delimiter: str) -> tuple[bool, int]:
        names = next(csv.reader([text], delimiter=delimiter), [])
        return not layout.refusal(names), unquoted.count(delimiter)

    return max(_DELIMITERS, key=columns)


class _CsvLines:
    """The lines that csv.reader asks for; those that a bad record has swallowed are given again.

    A generator could not be asked for more after it has raised an error.
    """

    def __init__(self, path: Path, start: ReadPosition, layout: RowLayout, delimiter: str) -> None:
        self._lines = read_lines(path, layout.line_bytes, start)
        self._delimiter = delimiter
        self._limit_bytes = layout.line_bytes
        self._returned: deque[TextLine] = deque()
        self._record: list[TextLine] = []
        self._record_bytes = 0

    def records(self) -> Iterator[_CsvRecord]:
        reader = csv.reader(self, delimiter=self._delimiter, strict=True)
        while True:
            self._record, self._record_bytes, reason, cells = [], 0, "", []
            try:
                cells = next(reader)
            except StopIteration:
                return
            except _BadRecordError as error:
                reason = str(error)
            except csv.Error as error:
                reason = _OPEN_QUOTE if "end of data" in str(error) else "not CSV"
            if reason:
                self._returned.extendleft(reversed(self._record[1:]))
                del self._record[1:]
            yield _CsvRecord(cells, reason, self._record[0], self._record[-1])

    def __iter__(self) -> "_CsvLines":
        return self

    def __next__(self) -> str:
        """Return the next line for the record being read."""
        line = self._returned.popleft() if self._returned else next(self._lines)
        self._record.append(line)
        if line.data is None:
            raise _BadRecordError(_too_long(self._limit_bytes))
        self._record_bytes += len(line.data)
        if self._record_bytes > self._limit_bytes and len(self._record) > 1:
            raise _BadRecordError(_OPEN_QUOTE)
        return line.data.decode("utf-8", "surrogateescape")


class _BadRecordError(Exception):
    """Why a record cannot be read."""


def _parse(data: bytes | None, layout: RowLayout) -> tuple[dict[str, Any], str]:
    """Return the object on a line, or why there is none. Never quotes the line."""
    if data is None:
        return {}, _too_long(layout.line_bytes)
    try:
        row = json.loads(data.decode())
    except UnicodeDecodeError:
        return {}, NOT_UTF8
    except (ValueError, RecursionError):
        return {}, "not JSON"
    return (row, "") if isinstance(row, dict) else ({}, "not a JSON object")


def _too_long(limit_bytes: int) -> str:
    return f"longer than {limit_bytes:,} bytes"


def _refusal_of_cells(cells: list[str], width: int) -> str:
    if len(cells) != width:
        return f"{len(cells)} columns, the header has {width}"
    try:
        "".join(cells).encode()
    except UnicodeEncodeError:
        return NOT_UTF8
    return ""
