"""Slices of a Parquet file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from scoremux_cli.batch.slices import Layout, Place, Slice

_MOST_ROWS = 4096
_BATCH_BYTES = 8 << 20
_STEP_ROWS = 256
"""A slice is looked at for its size at these rows of the file, so that it ends there wherever reading began."""

_BROKEN = (pa.ArrowException, OSError, ValueError)


def read_parquet(path: Path, layout: Layout, place: Place) -> Iterator[Slice]:
    """Yield the slices from `place` on. What cannot be read of a row group is rejected; those after it are read."""
    try:
        # Buffered, a column of a row group is read as it is needed; else all of it would be in memory.
        file = pq.ParquetFile(path, buffer_size=1 << 20)
        reason = _unfit(file.schema_arrow, layout)
    except _BROKEN:
        reason = "not a Parquet file"
    part, base = Slice(), place.row - place.line
    if reason:
        part.reject(None, reason)
    else:
        with file:
            for rows in _steps(file, layout, place.offset):
                while rows.count:
                    rows = rows.move_to(part, layout.part_rows, base)
                    place = Place(rows.start, rows.start, base + rows.start)
                    if part.full(layout):
                        part.after = place
                        yield part
                        part = Slice()
    part.after, part.done = place, True
    yield part


@dataclass(frozen=True)
class _Rows:
    """Neighbouring rows of the file, the first of them number `start` counted from 0. Without columns: unreadable."""

    start: int
    count: int
    columns: tuple[list[Any], ...] = ()

    def move_to(self, part: Slice, most: int, base: int) -> _Rows:
        """Move as many rows as the part has room for; return the others."""
        if not self.columns:
            part.reject(self.start + 1, f"rows {self.start + 1}–{self.start + self.count} cannot be read")
            return _Rows(self.start + self.count, 0)
        room = min(self.count, most - len(part) - len(part.rejected))
        ids, tasks, texts = (column[:room] for column in self.columns)
        first = self.start + 1
        if None in ids or None in tasks or None in texts:
            for number, (id_, task, text) in enumerate(zip(ids, tasks, texts, strict=True), first):
                if task is None or text is None:
                    part.reject(number, "no task" if task is None else "no text")
                else:
                    part.add(str(base + number) if id_ is None else id_, task, text, number)
        else:
            part.extend(ids, tasks, texts, range(first, first + room))
        return _Rows(self.start + room, self.count - room, tuple(column[room:] for column in self.columns))


def _steps(file: Any, layout: Layout, offset: int) -> Iterator[_Rows]:
    names = [name for name in (layout.id, layout.task, layout.text) if name in file.schema_arrow.names]
    start = 0
    for group in range(file.metadata.num_row_groups):
        end = start + file.metadata.row_group(group).num_rows
        if end > offset:
            yield from _group(file, group, start, offset, names, layout)
        start = end


def _unfit(schema: Any, layout: Layout) -> str:
    for name in (layout.task, layout.text, layout.id):
        count = schema.names.count(name)
        if count > 1 or (count == 0 and name != layout.id):
            return f"{'more than one' if count else 'no'} column {name}"
        kind = schema.field(name).type if count else pa.string()
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        if not _textual(kind) and (name != layout.id or pa.types.is_nested(kind)):
            return f"column {name} is {kind}, not text"
    return ""


def _group(file: Any, group: int, start: int, offset: int, names: list[str], layout: Layout) -> Iterator[_Rows]:
    info = file.metadata.row_group(group)
    end = start + info.num_rows
    wide = max(1, info.total_byte_size // max(1, info.num_rows))
    # A power of two, for batches that do not depend on where reading began.
    size = max(1, min(_MOST_ROWS, 1 << max(0, (_BATCH_BYTES // wide).bit_length() - 1)))
    try:
        for batch in file.iter_batches(size, row_groups=[group], columns=names):
            first, start = start, start + batch.num_rows
            if start <= offset:
                continue
            columns = _columns(batch, layout)
            for at in range(0, batch.num_rows, _STEP_ROWS):
                count = min(_STEP_ROWS, batch.num_rows - at)
                skip = max(0, offset - first - at)
                if skip < count:
                    cut = tuple(column[at + skip : at + count] for column in columns)
                    yield _Rows(first + at + skip, count - skip, cut)
    except _BROKEN:
        yield _Rows(max(start, offset), end - max(start, offset))


def _columns(batch: Any, layout: Layout) -> tuple[list[Any], ...]:
    # Texts stay bytes: that is what is sent, and the server says if they are not UTF-8.
    raw, texts = (_binary(batch.column(name)) for name in (layout.task, layout.text))
    known = {task: None if task is None else task.decode(errors="replace") for task in set(raw)}
    tasks = [known[task] for task in raw]
    if layout.id not in batch.schema.names:
        return [None] * batch.num_rows, tasks, texts
    ids = [None if id_ is None else id_.decode(errors="replace") for id_ in _binary(batch.column(layout.id))]
    return ids, tasks, texts


def _binary(column: Any) -> list[bytes | None]:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if not _textual(column.type):
        column = pc.cast(column, pa.string())
    kind = pa.large_binary() if column.type in (pa.large_string(), pa.large_binary()) else pa.binary()
    values: list[bytes | None] = pc.cast(column, kind).to_pylist()
    return values


def _textual(kind: Any) -> bool:
    return kind in (pa.string(), pa.large_string(), pa.binary(), pa.large_binary(), pa.string_view())
