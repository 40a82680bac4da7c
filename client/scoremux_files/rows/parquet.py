"""Records of Parquet files, read by pyarrow a batch at a time."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from scoremux_files.rows.row_layout import ReadPosition, Record, Row, RowLayout

_MOST_ROWS = 4096
_BATCH_BYTES = 8 << 20
_BROKEN = (pa.ArrowException, OSError, ValueError)


def read_parquet(path: Path, layout: RowLayout, start: ReadPosition) -> Iterator[Record]:
    """Yield the records from `start` on. A part of a row group that cannot be read is rejected; the rest is read."""
    path.open("rb").close()  # a file that is missing or forbidden raises OSError here; below, one that is damaged
    try:
        # Buffered, a column of a row group is read as it is needed; otherwise all of it would be in memory.
        file = pq.ParquetFile(path, buffer_size=1 << 20)
        reason = _refusal_of_schema(file.schema_arrow, layout)
    except _BROKEN:
        reason = "not a Parquet file"
    if reason:
        yield Record(None, start, {}, reason)
        return
    with file:
        first, skipped = 0, start.row - start.offset
        for group in range(file.metadata.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if first + rows > start.offset:
                for line, after, values, reason in _read_group(file, group, first, start.offset, layout):
                    yield Record(line, ReadPosition(after, after, skipped + after), values, reason)
            first += rows


def _read_group(
    file: Any, group: int, first: int, offset: int, layout: RowLayout
) -> Iterator[tuple[int, int, Row, str]]:
    """Yield line, offset of the next record, values and reason of the records of a row group.

    Args:
        first: Rows of the file before the group.
        offset: Rows of the file that are passed over.
    """
    info = file.metadata.row_group(group)
    row_bytes = max(1, info.total_byte_size // max(1, info.num_rows))
    size = min(_MOST_ROWS, max(1, _BATCH_BYTES // row_bytes))
    columns = [name for name in file.schema_arrow.names if layout.every_column or name in layout.named]
    number = first
    try:
        for batch in file.iter_batches(size, row_groups=[group], columns=columns):
            passed = min(batch.num_rows, max(0, offset - number))
            number += passed
            for values in _rows(batch.slice(passed), layout):
                number += 1
                yield number, number, values, ""
    except _BROKEN:
        line, end = max(number, offset) + 1, first + info.num_rows
        yield line, end, {}, f"rows {line}–{end} cannot be read"


def _rows(batch: Any, layout: RowLayout) -> Iterator[Row]:
    if not batch.num_rows:
        return
    names = batch.schema.names
    raw = None if layout.every_column else layout.text
    columns = [_values(column, name == raw) for name, column in zip(names, batch.columns, strict=True)]
    for values in zip(*columns, strict=True):
        yield dict(zip(names, values, strict=True))


def _values(column: Any, raw: bool) -> list[Any]:
    """Return a column's values. Text may be anything but UTF-8: `raw` leaves it to the server to say so."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if not _textual(column.type):
        kept = pa.types.is_nested(column.type) or (
            pa.types.is_primitive(column.type) and not pa.types.is_temporal(column.type)
        )
        return list((column if kept else as_text(column)).to_pylist())
    kind = pa.large_binary() if column.type in (pa.large_string(), pa.large_binary()) else pa.binary()
    values = pc.cast(column, kind).to_pylist()
    return values if raw else [None if v is None else v.decode(errors="replace") for v in values]


def as_text(column: Any) -> Any:
    """Return a column of any type as text: as Python writes a value, fixed numbers of bytes in hexadecimal."""
    kind = column.type
    write: Callable[[Any], str] | None = None
    if pa.types.is_fixed_size_binary(kind):
        write = bytes.hex
    # Arrow writes these in other ways than Python; an extension is a UUID.
    elif (
        isinstance(kind, pa.BaseExtensionType)
        or pa.types.is_nested(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_boolean(kind)
    ):
        write = str
    if write is None:
        return pc.cast(column, "string")
    return pa.array([value if value is None else write(value) for value in column.to_pylist()], "string")


def _refusal_of_schema(schema: Any, layout: RowLayout) -> str:
    if reason := layout.refusal(schema.names):
        return reason
    for name in () if layout.every_column else layout.named:
        count = schema.names.count(name)
        if count > 1:
            return f"more than one column {name}"
        kind = schema.field(name).type if count else pa.string()
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        if not _textual(kind) and (name in layout.needed or pa.types.is_nested(kind)):
            return f"column {name} is {kind}, not text"
    return ""


def _textual(kind: Any) -> bool:
    return kind in (pa.string(), pa.large_string(), pa.binary(), pa.large_binary(), pa.string_view())
