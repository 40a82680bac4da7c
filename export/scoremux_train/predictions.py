"""`predictions.parquet`: what adapters said of responses that they had not seen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from scoremux_files.rows.writers import write_rows
from scoremux_train.run import Fitted

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("task", pa.string()),
        ("fold", pa.int32()),
        ("level", pa.int32()),
        ("second_level", pa.int32()),
        ("probabilities", pa.list_(pa.float32())),
    ]
)
"""level, second_level: the humans'; fold: the one that the row was held out in. Columns of groups follow."""


def write_predictions(path: Path, trained: Sequence[Fitted]) -> None:
    """Write a row for each labelled response that was trained on. Raises InputError."""
    groups = sorted({name for one in trained for row in one.rows for name in row.groups})
    rows = [
        {
            **row.groups,
            "id": row.id,
            "task": one.task.id,
            "fold": fold,
            "level": row.level,
            "second_level": row.second,
            "probabilities": p.tolist(),
        }
        for one in trained
        for row, fold, p in zip(one.rows, one.fold_of, one.predicted, strict=True)
    ]
    schema = pa.schema([*SCHEMA, *((name, pa.string()) for name in groups if name not in SCHEMA.names)])
    write_rows(path, [pa.Table.from_pylist(rows, schema=schema)], schema)
