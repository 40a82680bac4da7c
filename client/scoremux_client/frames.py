"""Outcomes as a table: in a notebook, and in data frames of pandas, Polars and pyarrow.

Frames are read and extended through Arrow's PyCapsule interface. Rows are read from two columns, outcomes become new
ones. pyarrow is imported only where a frame is given or asked for.
"""

import importlib
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from importlib.util import find_spec
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

_CLASHING = "machine_"
"""What a new column is called where the frame has its name: `machine_level` beside people's `level`."""

_SHOWN = ("id", "task", "status", "level", "score", "confidence", "condition", "route")
_SHOWN_ROWS = 20


class Scores(list[Scored]):
    """Outcomes in the order of the rows: a list, which a notebook shows as a table."""

    def to_frame(self) -> Any:
        """Return a data frame with `id`, `task` and `COLUMNS`, a row for each outcome.

        It is of pandas, or of Polars where pandas is not installed, or a table of pyarrow. Raises InputError without
        pyarrow.
        """
        table = _pyarrow().table({"id": [s.id for s in self], "task": [s.task for s in self]})
        library = next((name for name in ("pandas", "polars") if find_spec(name)), "pyarrow")
        return _as_frame(_with_columns(table, columns_of(self)), library)

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{name}</th>" for name in _SHOWN)
        rows = "".join(f"<tr>{''.join(map(_cell, _values(scored)))}</tr>" for scored in self[:_SHOWN_ROWS])
        more = f"<p>{len(self):,} rows; the first {_SHOWN_ROWS} are shown</p>" if len(self) > _SHOWN_ROWS else ""
        return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{more}"


class FrameRows:
    """The rows of one frame. A missing task or text (null, NaN) is not sent: it gets INVALID_TASK or INVALID_TEXT."""

    def __init__(self, frame: Any, task: str, text: str) -> None:
        self._frame, self._table = frame, _table_of(frame)
        present = self._table.column_names
        for name in (task, text):
            if present.count(name) != 1:
                raise InputError(f"the frame has {present.count(name)} columns {name!r}; it has {', '.join(present)}")
        if clashes := sorted(set(present) & {f"{_CLASHING}{name}" for name in COLUMNS if name in present}):
            raise InputError(f"the frame has columns {', '.join(clashes)} already; rename them")
        self._tasks, self._texts = (self._table[name].to_pylist() for name in (task, text))

    def responses(self) -> Iterator[Response]:
        """Yield the rows. A text of None is not sent."""
        for task, text in zip(self._tasks, self._texts, strict=True):
            yield Response("", None) if task is None else Response(task, text)

    def with_outcomes(self, scored: Iterable[Scored]) -> Any:
        """Return the rows in order, columns added: of pandas or Polars where they came from there, else of pyarrow."""
        columns = columns_of(list(scored))
        for row in (row for row, task in enumerate(self._tasks) if task is None):
            columns["status"][row] = Status.INVALID_TASK.value
        return _as_frame(_with_columns(self._table, columns), type(self._frame).__module__.partition(".")[0])


def _with_columns(table: Any, columns: dict[str, list[Any]]) -> Any:
    """Return a table of pyarrow with more columns."""
    pa, present = _pyarrow(), table.column_names
    for name, values in columns.items():
        kind = pa.list_(pa.float32()) if _TYPES[name] == _LIST else _TYPES[name]
        table = table.append_column(_CLASHING + name if name in present else name, pa.array(values, kind))
    return table


def _as_frame(table: Any, library: str) -> Any:
    """Return a table as a frame of pandas or Polars, else as it is."""
    if library == "pandas":
        return table.to_pandas()
    return importlib.import_module("polars").from_arrow(table) if library == "polars" else table


def _pyarrow() -> Any:
    try:
        return importlib.import_module("pyarrow")
    except ImportError as error:
        raise InputError(f"data frames need pyarrow: pip install pyarrow ({error})") from error


def _values(scored: Scored) -> Iterator[Any]:
    return (getattr(scored, name) for name in _SHOWN)


def _cell(value: Any) -> str:
    shown = "" if value is None else f"{value:.2f}" if isinstance(value, float) else str(value)
    return f"<td>{escape(shown)}</td>"


def _table_of(frame: Any) -> Any:
    """Return a frame as a table of pyarrow. Raises InputError naming what was given."""
    kind = f"{type(frame).__module__.partition('.')[0]}.{type(frame).__name__}"
    if not (hasattr(frame, "__arrow_c_stream__") or hasattr(frame, "__arrow_c_array__")):
        hint = "; call .collect() first" if hasattr(frame, "collect") else ""
        raise InputError(f"{kind} is not a data frame with Arrow's interface (pandas 2.2, Polars, pyarrow){hint}")
    pa = _pyarrow()
    try:
        return pa.table(frame)
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
