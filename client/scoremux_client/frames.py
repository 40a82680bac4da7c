"""Data frames of pandas, Polars and pyarrow: rows are read from two columns, outcomes become new ones.

None of the three is imported unless the caller's frame comes from it.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from scoremux_client.contract import Status
from scoremux_client.errors import InputError
from scoremux_client.rows import Response, Scored

_TYPES = {
    "status": ("object", "String", "string"),
    "level": ("int32", "Int32", "int32"),
    "score": ("float32", "Float32", "float32"),
    "probabilities": ("object", "List", "list_"),
    "version": ("object", "String", "string"),
    "tokens": ("int32", "Int32", "int32"),
    "truncated": ("bool", "Boolean", "bool_"),
    "confidence": ("float32", "Float32", "float32"),
    "condition": ("object", "String", "string"),
    "route": ("object", "String", "string"),
    "level_low": ("Int32", "Int32", "int32"),
    "level_high": ("Int32", "Int32", "int32"),
}
"""New column → its type in pandas, Polars and pyarrow, where a list is one of the column `score`."""

COLUMNS = tuple(_TYPES)
"""Columns that are added, in this order."""

Values = dict[str, list[Any]]


class FrameRows:
    """The rows of one frame. A missing task or text (null, NaN) is not sent: it gets INVALID_TASK or INVALID_TEXT."""

    def __init__(self, frame: Any, task: str, text: str) -> None:
        self._kind, self._frame = _kind_of(frame), frame
        present = [str(name) for name in self._columns()]
        for name in (task, text):
            if present.count(name) != 1:
                raise InputError(f"the frame has {present.count(name)} columns {name!r}; it has {', '.join(present)}")
        if clashes := sorted(set(present) & set(COLUMNS)):
            raise InputError(f"the frame has columns {', '.join(clashes)} already; rename them")
        self._tasks, self._texts = self._values(task), self._values(text)

    def responses(self) -> Iterator[Response]:
        """Yield the rows to send."""
        for task, text in zip(self._tasks, self._texts, strict=True):
            if not _missing(task) and not _missing(text):
                yield Response(task, text)

    def with_outcomes(self, scored: Iterable[Scored]) -> Any:
        """Return a frame of the same kind, its rows in the same order and with the same index, columns added."""
        values = _columns(list(self._merged(scored)))
        if self._kind == "pandas":
            return self._with_pandas(values)
        if self._kind == "polars":
            return self._with_polars(values)
        return self._with_arrow(values)

    def _merged(self, scored: Iterable[Scored]) -> Iterator[Scored]:
        outcomes = iter(scored)
        for task, text in zip(self._tasks, self._texts, strict=True):
            if _missing(task):
                yield Scored.without_score(Response("", ""), Status.INVALID_TASK)
            elif _missing(text):
                yield Scored.without_score(Response(task, ""), Status.INVALID_TEXT)
            else:
                yield next(outcomes)

    def _columns(self) -> Sequence[Any]:
        if self._kind in ("pandas", "polars"):
            return list(self._frame.columns)
        return list(self._frame.schema.names)

    def _values(self, name: str) -> list[Any]:
        column = self._frame[name]
        if self._kind == "pandas":
            return list(column.tolist())
        return list(column.to_list() if self._kind == "polars" else column.to_pylist())

    def _with_pandas(self, values: Values) -> Any:
        pandas, index = importlib.import_module("pandas"), self._frame.index
        types = dict(zip(values, (pandas_type for pandas_type, _, _ in _TYPES.values()), strict=True))
        return self._frame.assign(**{n: pandas.Series(v, index=index, dtype=types[n]) for n, v in values.items()})

    def _with_polars(self, values: Values) -> Any:
        pl = importlib.import_module("polars")
        types = [pl.List(pl.Float32) if name == "List" else getattr(pl, name) for _, name, _ in _TYPES.values()]
        columns = zip(values.items(), types, strict=True)
        return self._frame.with_columns([pl.Series(n, v, dtype=t) for (n, v), t in columns])

    def _with_arrow(self, values: Values) -> Any:
        pa = importlib.import_module("pyarrow")
        frame = self._frame
        for (name, column), (_, _, kind) in zip(values.items(), _TYPES.values(), strict=True):
            kind = pa.list_(pa.float32()) if kind == "list_" else getattr(pa, kind)()
            frame = frame.append_column(name, pa.array(column, type=kind))
        return frame


def _kind_of(frame: Any) -> str:
    """Return the kind of a frame. Raises InputError naming what was given."""
    kind = type(frame)
    library = kind.__module__.partition(".")[0]
    kinds = {("pandas", "DataFrame"), ("polars", "DataFrame"), ("pyarrow", "Table"), ("pyarrow", "RecordBatch")}
    for base in kind.__mro__:
        if (base.__module__.partition(".")[0], base.__name__) in kinds:
            return base.__module__.partition(".")[0]
    hint = "; call .collect() first" if (library, kind.__name__) == ("polars", "LazyFrame") else ""
    raise InputError(f"{library}.{kind.__name__} is not a data frame of pandas, polars or pyarrow{hint}")


def _columns(scored: list[Scored]) -> Values:
    rows = (
        (
            *(s.status.value, s.level, s.score, list(s.probabilities), s.version, s.tokens, s.truncated),
            *(s.confidence, s.condition, s.route, *(s.level_range or (None, None))),
        )
        for s in scored
    )
    columns = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in COLUMNS]
    return dict(zip(COLUMNS, columns, strict=True))


def _missing(value: Any) -> bool:
    # None, and what pandas has for it: NaN and NA.
    return value is None or (isinstance(value, float) and math.isnan(value)) or type(value).__name__ == "NAType"
