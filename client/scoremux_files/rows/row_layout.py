"""What is read of a file of rows, and where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

Row = dict[str, Any]


@dataclass(frozen=True)
class Layout:
    """Columns of the input, and how it is divided.

    id, task, text: names of columns. part_rows: rows that a part holds at most. part_bytes: texts of a part, in bytes,
    before another begins. line_bytes: longest line or CSV record that is read. every_column: read all of them, whether
    or not task and text are there.
    """

    id: str = "id"
    task: str = "task"
    text: str = "text"
    part_rows: int = 16_384
    part_bytes: int = 16 << 20
    line_bytes: int = 4 << 20
    every_column: bool = False

    @property
    def needed(self) -> tuple[str, ...]:
        """Columns that must be there."""
        return () if self.every_column else (self.task, self.text)


@dataclass(frozen=True)
class Place:
    """Where a reader goes on in a file.

    offset: in bytes, of the next line; in rows for Parquet. line: lines (Parquet: rows) read so far. row: rows read so
    far in the whole job, rejected ones included.
    """

    offset: int = 0
    line: int = 0
    row: int = 0


class Record(NamedTuple):
    """One row of a file, or why it cannot be read: then `reason` says it, and never quotes the row.

    line: from 1; for Parquet the row; None if it is the file as a whole. next_offset, next_line: where a reader goes on
    after it, as in `Place`. rows: how many rows it stands for.
    """

    line: int | None
    next_offset: int
    next_line: int
    values: Row
    reason: str = ""
    rows: int = 1
