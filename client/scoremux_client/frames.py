"""Outcomes as a data frame of pandas, Polars or pyarrow.

pyarrow is imported only where a frame is asked for.
"""

import importlib
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from scoremux_client.errors import InputError
from scoremux_client.rows import Scored

_LIST = "list"
_TYPES = {
    "status": "string", "level": "int32", "score": "float32", "probabilities": _LIST, "version": "string",
    "tokens": "int32", "truncated": "bool", "confidence": "float32", "condition": "string", "route": "string",
    "level_low": "int32", "level_high": "int32", "feedback": "string",
}  # fmt: skip
"""New column → its type in Arrow; a list is of float32."""

COLUMNS = tuple(_TYPES)
"""Columns that are added, in this order."""


class Scores(list[Scored]):
    """Outcomes in the order of the rows."""

    def to_frame(self) -> Any:
        """Return a data frame with `id`, `task` and `COLUMNS`, a row for each outcome.

        It is of pandas, or of Polars where pandas is not installed, or a table of pyarrow. Raises InputError without
        pyarrow.
        """
        try:
            pa = importlib.import_module("pyarrow")
        except ImportError as error:
            raise InputError(f"data frames need pyarrow: pip install pyarrow ({error})") from error
        types = {name: pa.list_(pa.float32()) if kind == _LIST else kind for name, kind in _TYPES.items()}
        outcomes = {name: pa.array(values, types[name]) for name, values in columns_of(self).items()}
        table = pa.table({"id": [s.id for s in self], "task": [s.task for s in self], **outcomes})
        if find_spec("pandas"):
            return table.to_pandas()
        return importlib.import_module("polars").from_arrow(table) if find_spec("polars") else table


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
