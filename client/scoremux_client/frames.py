"""Data frames of pandas, Polars and pyarrow, read and extended through Arrow's PyCapsule interface.

Rows are read from two columns, outcomes become new ones. pyarrow is imported only where a frame is given.
"""

import importlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from scoremux_client.contract import Status
from scoremux_client.errors import InputError
from scoremux_client.rows import Response, Scored

_LIST = "list"
_TYPES = {
    "status": "string", "level": "int32", "score": "float32", "probabilities": _LIST, "version": "string",
    "tokens": "int32", "truncated": "bool", "confidence": "float32", "condition": "string", "route": "string",
    "level_low": "int32", "level_high": "int32", "feedback": "string",
}  # fmt: skip
"""New column → its type in Arrow; a list is of float32."""

COLUMNS = tuple(_TYPES)
"""Columns that are added, in this order."""


class FrameRows:
    """The rows of one frame. A missing task or text (null, NaN) is not sent: it gets INVALID_TASK or INVALID_TEXT."""

    def __init__(self, frame: Any, task: str, text: str) -> None:
        self._frame, self._table = frame, _table_of(frame)
        present = self._table.column_names
        for name in (task, text):
            if present.count(name) != 1:
                raise InputError(f"the frame has {present.count(name)} columns {name!r}; it has {', '.join(present)}")
        if clashes := sorted(set(present) & set(COLUMNS)):
            raise InputError(f"the frame has columns {', '.join(clashes)} already; rename them")
        self._tasks, self._texts = (self._table[name].to_pylist() for name in (task, text))

    def responses(self) -> Iterator[Response]:
        """Yield the rows. A text of None is not sent."""
        for task, text in zip(self._tasks, self._texts, strict=True):
            yield Response("", None) if task is None else Response(task, text)

    def with_outcomes(self, scored: Iterable[Scored]) -> Any:
        """Return the rows in order, columns added: of pandas or Polars where they came from there, else of pyarrow."""
        pa = importlib.import_module("pyarrow")
        table, library = self._table, type(self._frame).__module__.partition(".")[0]
        columns = columns_of(list(scored))
        for row in (row for row, task in enumerate(self._tasks) if task is None):
            columns["status"][row] = Status.INVALID_TASK.value
        for name, values in columns.items():
            kind = pa.list_(pa.float32()) if _TYPES[name] == _LIST else _TYPES[name]
            table = table.append_column(name, pa.array(values, kind))
        if library == "pandas":
            return table.to_pandas()
        return importlib.import_module("polars").from_arrow(table) if library == "polars" else table


def _table_of(frame: Any) -> Any:
    """Return a frame as a table of pyarrow. Raises InputError naming what was given."""
    kind = f"{type(frame).__module__.partition('.')[0]}.{type(frame).__name__}"
    if not (hasattr(frame, "__arrow_c_stream__") or hasattr(frame, "__arrow_c_array__")):
        hint = "; call .collect() first" if hasattr(frame, "collect") else ""
        raise InputError(f"{kind} is not a data frame with Arrow's interface (pandas 2.2, Polars, pyarrow){hint}")
    try:
        return importlib.import_module("pyarrow").table(frame)
    except ImportError as error:
        raise InputError(f"data frames need pyarrow: pip install pyarrow ({error})") from error
    except (ValueError, TypeError) as error:  # pyarrow's message may quote a cell
        raise InputError(f"{kind} has a column that Arrow cannot hold, such as one of texts and numbers") from error


def columns_of(scored: Sequence[Scored]) -> dict[str, list[Any]]:
    """Return outcomes as columns, in the order of `COLUMNS`."""
    rows = (
        (
            *(s.status.value, s.level, s.score, list(s.probabilities), s.version, s.tokens, s.truncated),
            *(s.confidence, s.condition, s.route, *(s.level_range or (None, None)), s.feedback),
        )
        for s in scored
    )
    columns = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in COLUMNS]
    return dict(zip(COLUMNS, columns, strict=True))
