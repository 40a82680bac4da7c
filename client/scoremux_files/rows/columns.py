"""Whole columns of a file of rows, as Arrow arrays: for commands that look at all rows at once."""

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from scoremux_files.errors import InputError, reason
from scoremux_files.rows.codes import Codes, Ints32, codes_of
from scoremux_files.rows.parquet import as_text
from scoremux_files.rows.readers import cell_text, files_of, read_rows
from scoremux_files.rows.row_layout import list_columns

Columns = dict[str, Any]
"""Column name → Arrow array."""

Floats64 = npt.NDArray[np.float64]

_NUMBER = r"^\s*[+-]?[0-9]{1,9}(\.[0-9]*)?(e-[0-9]{1,2})?\s*$"
_FEW_VALUES = ("task", "status", "version", "arithmetic")


def present_columns(path: Path, names: Sequence[str], needed: Sequence[str]) -> Columns:
    """Return those of the named columns that a file, or the folder that a job wrote, has.

    Columns of Parquet files keep their types. In .jsonl and .csv files a value may be written in several ways, so that
    their columns are text; null where a row has none. Lists stay lists.

    Args:
        needed: Columns that must be there.

    Raises:
        InputError: a row cannot be read, or a needed column is missing; names file and line or column.
    """
    files, names = files_of(path), list(dict.fromkeys(names))
    of_parquet = files and all(file.suffix.lower() == ".parquet" for file in files)
    columns, all_names = _read_parquet(files, names) if of_parquet else _read_rows(path, names)
    for name in needed:
        if name not in columns:
            listed = list_columns(all_names)
            raise InputError(f"{path} has no column {name} (its columns: {listed}); name it with --column KEY=NAME")
    return columns


def encode(column: Any) -> Codes:
    """Return a column of few values as codes; a blank value has none."""
    array = _whole(column)
    if not pa.types.is_dictionary(array.type):
        array = array.dictionary_encode()
    names = [(cell_text(value) or "").strip() or None for value in array.dictionary.to_pylist()]
    codes = codes_of(names)
    places = np.asarray(pc.fill_null(array.indices, len(names)))
    return codes.take(places)


def arrow_texts(codes: Codes) -> Any:
    """Return a column of codes as text, an Arrow array."""
    return pa.array(codes.values, "string").take(pa.array(codes.code, mask=codes.code < 0))


def numbered(listed: Any, sought: Any) -> tuple[Ints32, Ints32, int]:
    """Return a number for each text of `listed`, those of `sought` (−1: not listed), and how many numbers there are."""
    encoded = pc.cast(_whole(listed), "large_string").dictionary_encode()
    texts = pc.cast(_whole(sought), "large_string")
    places = pc.index_in(texts, value_set=encoded.dictionary)
    of_listed = np.asarray(encoded.indices, np.int32)
    of_sought = np.asarray(pc.fill_null(places, -1), np.int32)
    return of_listed, of_sought, len(encoded.dictionary)


def texts(column: Any) -> Any:
    """Return a column as text, null where it is null or blank."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    column = as_text(column)
    is_blank = pc.equal(pc.utf8_trim_whitespace(column), "")
    return pc.if_else(is_blank, pa.scalar(None, "string"), column)


def levels(column: Any) -> Floats64:
    """Return whole numbers, NaN where there is none."""
    values = numbers(column)
    return np.where(np.floor(values) == values, values, np.nan)


def numbers(column: Any) -> Floats64:
    """Return finite numbers, NaN where there is none."""
    if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
        written = texts(column)
        fits = pc.fill_null(pc.match_substring_regex(written, _NUMBER), False)
        trimmed = pc.utf8_trim_whitespace(written)
        column = pc.if_else(fits, trimmed, pa.scalar(None, "string"))
    values = np.asarray(pc.cast(column, "float64"), np.float64)
    return np.where(np.isinf(values), np.nan, values)


@dataclass(frozen=True)
class Distributions:
    """Figures of B rows' probabilities; NaN in a row without any.

    Attributes:
        width: Number of probabilities, int32 [B].
        greatest: The greatest of them.
    """

    width: Ints32
    greatest: Floats64


def distributions(column: Any, rows: int) -> Distributions:
    """Read a column of probabilities; None: no row has any."""
    width = np.zeros(rows, np.int32)
    most = np.full(rows, np.nan)
    if column is not None and rows:
        values, width = number_lists(column)
        starts, filled = np.cumsum(width) - width, width > 0
        if filled.any():
            most[filled] = np.maximum.reduceat(values, starts[filled])
    return Distributions(width, most)


def number_lists(column: Any) -> tuple[Floats64, Ints32]:
    """Return the numbers of all rows one after the other, and how many each row has. Raises ValueError."""
    column = _whole(column)
    if not pa.types.is_nested(column.type):
        rows = [[float(cell) for cell in (cells or "").split()] for cells in column.to_pylist()]
        column = pa.array(rows, pa.list_(pa.float64()))
    count = np.asarray(pc.fill_null(pc.list_value_length(column), 0), np.int32)
    values = pc.cast(pc.list_flatten(column), "float64")
    return np.asarray(values), count


def _whole(column: Any) -> Any:
    return column.unify_dictionaries().combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _read_rows(path: Path, names: Sequence[str]) -> tuple[Columns, list[str]]:
    columns: dict[str, list[Any]] = {name: [] for name in names}
    present: dict[str, None] = {}
    for row in read_rows(path):
        present.update(dict.fromkeys(row))
        for name, values in columns.items():
            value = row.get(name)
            values.append(None if isinstance(value, float) and math.isnan(value) else value)
    return {name: _array(values) for name, values in columns.items() if name in present}, list(present)


def _read_parquet(files: Sequence[Path], names: Sequence[str]) -> tuple[Columns, list[str]]:
    tables: list[Any] = []
    present: list[str] = []
    for file in files:
        try:
            present = pq.read_schema(file).names
            columns = [name for name in names if name in present]
            tables.append(pq.read_table(file, columns=columns, read_dictionary=_FEW_VALUES, partitioning=None))
        except FileNotFoundError as error:
            raise InputError(f"{file} cannot be read: {reason(error)}") from error
        except (pa.ArrowException, OSError, ValueError) as error:
            raise InputError(f"{file}: not a Parquet file") from error
    table = pa.concat_tables(tables, promote_options="permissive")
    return {name: table[name] for name in table.column_names}, present


def _array(values: list[Any]) -> Any:
    present = [value for value in values if value is not None]
    if present and all(isinstance(value, list) for value in present):
        with suppress(pa.ArrowException, TypeError, ValueError):
            return pa.array(values, pa.list_(pa.float32()))
    return pa.array([value if value is None else str(value) for value in values], "string")
