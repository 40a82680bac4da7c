"""Parts: the files that a slice is written to, one of outcomes and one of rejected rows."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from scoremux_cli.batch.journal import tally_name
from scoremux_cli.batch.people import ReadBehind
from scoremux_cli.batch.slices import Slice
from scoremux_client.errors import InputError
from scoremux_client.rows import Scored
from scoremux_files.atomic import replace_file, replacing
from scoremux_files.rows.writers import SCHEMA

PLACED = SCHEMA.append(pa.field("source", pa.string())).append(pa.field("line", pa.int64()))
"""Columns of a part: those of an outcome, and the file and line (Parquet: row) that its row came from."""

REJECTED = "rejected"
NOWHERE = "nowhere: nobody can grade it"


def part_path(folder: Path, number: int) -> Path:
    """Return the file of a part's outcomes."""
    return folder / f"part-{number:06}.parquet"


def rejected_path(folder: Path, number: int) -> Path:
    """Return the file of a part's rejected rows."""
    return folder / REJECTED / f"part-{number:06}.jsonl"


def write_part(
    folder: Path, number: int, source: str, part: Slice, scored: Sequence[Scored], behind: ReadBehind | None = None
) -> dict[str, Any]:
    """Write a slice; return its counts for the journal. Raises OSError.

    Args:
        folder: The job's.
        number: The part's.
        source: The file that the slice is of.
        part: The slice.
        scored: Its rows' outcomes.
        behind: Picks rows that people score too.
    """
    picked = [behind is not None and behind.picks(*row) for row in zip(part.tasks, part.ids, scored, strict=True)]
    shares = [behind.share if behind and one else None for one in picked]
    if part.ids:
        table = table_of(part, source, scored, shares)
        with replacing(part_path(folder, number), mode=None) as aside:
            pq.write_table(table, aside, compression="zstd")
    if part.rejected:
        rows = [{"source": source, "line": r.line, "reason": r.reason} for r in part.rejected]
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode("utf-8", "replace")
        path = rejected_path(folder, number)
        path.parent.mkdir(exist_ok=True)
        replace_file(path, [lines], mode=None)
    counts: dict[str, dict[str, int]] = {}
    for (task, status), count in sorted(
        Counter(zip(part.tasks, [s.status.value for s in scored], strict=True)).items()
    ):
        statuses = counts.setdefault(tally_name(task), {})
        statuses[status] = statuses.get(status, 0) + count
    return {
        "files": 1 if part.ids or part.rejected else 0,
        "rows": len(part.ids),
        "rejected": len(part.rejected),
        "counts": counts,
        "people": {
            "route": dict(sorted(Counter(s.route or NOWHERE for s in scored).items())),
            "condition": dict(sorted(Counter(s.condition for s in scored if s.condition).items())),
            "read behind": {"picked": sum(picked)} if behind else {},
        },
    }


def read_tables(folder: Path) -> Iterator[Any]:
    """Yield the parts of a job's folder as tables, in order. Raises InputError for one that is broken."""
    for path in sorted(folder.glob("part-*.parquet")):
        try:
            yield pq.read_table(path)
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{path} cannot be read") from error


def table_of(part: Slice, source: str, scored: Sequence[Scored], shares: Sequence[float | None] = ()) -> Any:
    """Return a slice's rows with their outcomes, columns as in `PLACED`; shares: its column `read_behind`."""
    score = np.array([s.score for s in scored], np.float32)
    widths = np.array([0, *(len(s.probabilities) for s in scored)], np.int32).cumsum(dtype=np.int32)
    flat = np.array([p for s in scored for p in s.probabilities], np.float32)
    columns = {
        "id": _texts(part.ids),
        "task": _texts(part.tasks),
        "status": pa.array([s.status.value for s in scored], pa.string()),
        "level": pa.array(np.array([s.level for s in scored], np.int32)),
        "score": pa.array(score, mask=np.isnan(score)),
        "probabilities": pa.ListArray.from_arrays(widths, pa.array(flat)),
        "version": pa.array([s.version for s in scored], pa.string()),
        "tokens": pa.array(np.array([s.tokens for s in scored], np.int32)),
        "truncated": pa.array(np.array([s.truncated for s in scored], np.bool_)),
        "confidence": pa.array([s.confidence for s in scored], pa.float32()),
        "level_low": pa.array([s.level_range and s.level_range[0] for s in scored], pa.int32()),
        "level_high": pa.array([s.level_range and s.level_range[1] for s in scored], pa.int32()),
        "condition": pa.array([s.condition for s in scored], pa.string()),
        "route": pa.array([s.route for s in scored], pa.string()),
        "read_behind": pa.array(shares or [None] * len(scored), pa.float32()),
        "source": _texts([source] * len(scored)),
        "line": pa.array(part.lines, pa.int64()),
    }
    return pa.table([columns[name] for name in PLACED.names], schema=PLACED)


def _texts(values: list[str]) -> Any:
    try:
        return pa.array(values, pa.string())
    except UnicodeEncodeError:  # JSON may bring half of a surrogate pair
        return pa.array([value.encode("utf-8", "replace").decode() for value in values], pa.string())
