"""Slices of a file: the rows of one part, a function of the file and of where the slice begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

Text = str | bytes


@dataclass(frozen=True)
class Layout:
    """Columns of the input, and how it is cut.

    part_rows: rows a part holds at most. part_bytes: texts of a part, in bytes, before another begins.
    line_bytes: longest line or CSV record that is read.
    """

    id: str = "id"
    task: str = "task"
    text: str = "text"
    part_rows: int = 16_384
    part_bytes: int = 16 << 20
    line_bytes: int = 4 << 20


@dataclass(frozen=True)
class Place:
    """Where a reader goes on in a file.

    offset: in bytes, of the next line; in rows for Parquet. line: lines (Parquet: rows) read so far. row: rows read so
    far in all of the job, rejected ones included.
    """

    offset: int = 0
    line: int = 0
    row: int = 0


@dataclass(frozen=True)
class Rejected:
    """A row that cannot be sent, and why. line: from 1; for Parquet the row; None: the file as a whole."""

    line: int | None
    reason: str


@dataclass
class Slice:
    """Rows in order as columns, what was rejected among them, and where the next slice begins. done: the file ends."""

    ids: list[str] = field(default_factory=list)
    tasks: list[str] = field(default_factory=list)
    texts: list[Text] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    text_bytes: int = 0
    after: Place = field(default_factory=Place)
    done: bool = False

    def __len__(self) -> int:
        return len(self.ids)

    def add(self, id: str, task: str, text: Text, line: int) -> None:
        """Take a row."""
        self.ids.append(id)
        self.tasks.append(task)
        self.texts.append(text)
        self.lines.append(line)
        self.text_bytes += len(text)

    def extend(self, ids: list[str], tasks: list[str], texts: list[Text], lines: Sequence[int]) -> None:
        """Take several rows."""
        self.ids += ids
        self.tasks += tasks
        self.texts += texts
        self.lines += lines
        self.text_bytes += sum(map(len, texts))

    def reject(self, line: int | None, reason: str) -> None:
        """Note a row that is not sent."""
        self.rejected.append(Rejected(line, reason))

    def full(self, layout: Layout) -> bool:
        """Whether the next slice begins."""
        return len(self.ids) + len(self.rejected) >= layout.part_rows or self.text_bytes >= layout.part_bytes
