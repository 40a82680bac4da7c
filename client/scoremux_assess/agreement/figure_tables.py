"""An assessment as JSON, and as a table with a row for each figure."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scoremux_assess.agreement.assessment import Assessment, Found
from scoremux_assess.agreement.comparison import Comparison
from scoremux_assess.agreement.joining import Joined
from scoremux_assess.agreement.verdicts import Judged, Verdict
from scoremux_client.errors import InputError
from scoremux_files.atomic import replace_file, replacing
from scoremux_files.rows.writers import formula_safe

ALL = "all rows"
COLUMNS = ("task", "column", "group", "statistic", "value", "low", "high", "n", "verdict", "rows_needed")
"""Of the table. column, group: a column of the truth and its value; empty for a whole task. value, low, high: null
where the figure is not defined. rows_needed: how many rows would decide, where there are not enough."""

Record = dict[str, Any]


def records(assessed: Assessment) -> Iterator[Record]:
    """Yield a row for each figure: of the tasks, of all rows, of the groups."""
    names = (*assessed.tasks, ALL)
    by_name = {criterion.statistic: judged for criterion, judged in assessed.judged.items()}
    for cell, task in enumerate(names):
        for statistic, cells in figures(assessed.found, cell):
            judged = by_name.get(statistic) if cell < len(assessed.tasks) else None
            yield {"task": task, "column": "", "group": "", "statistic": statistic, **cells, **_verdict(judged, cell)}
    groups = assessed.groups
    for cell in range(0 if groups is None else len(groups.task)):
        assert groups is not None
        where = {"task": names[groups.task[cell]], "column": groups.column[cell], "group": groups.value[cell]}
        of_groups = {criterion.statistic: judged for criterion, judged in groups.judged.items()}
        for statistic, cells in figures(groups.found, cell):
            yield {**where, "statistic": statistic, **cells, **_verdict(of_groups.get(statistic), cell)}


def figures(found: Found, cell: int) -> Iterator[tuple[str, Record]]:
    """Yield the name of each statistic of a cell with its value, interval and number of rows."""
    for name, one in found.items():
        value, low, high = (_number(column[cell]) for column in (one.value, one.low, one.high))
        yield name, {"value": value, "low": low, "high": high, "n": int(one.n[cell])}


def as_json(assessed: Assessment, joined: Joined, provenance: Record) -> Record:
    """Return everything that the report shows, ready for `json.dumps`."""
    return {
        **provenance,
        "rows": len(joined),
        "left_out": [{"reason": x.reason, "rows": x.count, "examples": list(x.examples)} for x in joined.left],
        "criteria": [{**vars(c), "title": c.title} for c in assessed.criteria],
        "tasks": [_task(assessed, cell) for cell in range(len(assessed.tasks))],
        "all": {"statistics": dict(figures(assessed.found, -1)), **_confidence(assessed, -1)},
        "groups": list(_groups(assessed)),
        "confidence_is_calibrated": joined.calibrated,
    }


def write_table(path: Path, assessed: Assessment) -> None:
    """Write the figures to a .csv, .json or .parquet file. Raises InputError."""
    writers = {".csv": _write_csv, ".json": _write_json, ".parquet": _write_parquet}
    if path.suffix.lower() not in writers:
        raise InputError(f"{path}: figures are written to {', '.join(writers)} files")
    try:
        with replacing(path, mode=None) as aside:
            writers[path.suffix.lower()](aside, list(records(assessed)))
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from error


def write_comparison(path: Path, found: Comparison) -> None:
    """Write a comparison to a JSON file. Raises InputError."""
    cells = [
        {
            "name": name,
            **dict(figures(found.shares, cell)),
            **{
                k: dict(figures(v, cell))
                for k, v in (("old", found.old), ("new", found.new), ("change", found.changes))
            },
        }
        for cell, name in enumerate(found.names)
    ]
    left = [{"reason": x.reason, "rows": x.count, "examples": list(x.examples)} for x in found.left]
    write_json(path, {"cells": cells, "rows_by_levels_moved": found.moves, "left_out": left})


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file. Raises InputError."""
    try:
        replace_file(path, [json.dumps(content, ensure_ascii=False, indent=1).encode(), b"\n"])
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from error


def write_rsm(path: Path, joined: Joined) -> None:
    """Write the input of RSMTool's rsmeval: spkitemid, sc1, sc2 if there is a second human, raw, and the groups."""
    ratings, groups = joined.ratings, list(joined.groups.values())
    double = bool((ratings.second == ratings.second).any())
    names = ["spkitemid", "sc1", *(["sc2"] if double else []), "raw", *joined.groups]
    try:
        with replacing(path, mode=None) as aside, aside.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(names)
            for row, name in enumerate(joined.ids.to_pylist()):
                second = ratings.second[row]
                given = [] if not double else ["" if math.isnan(second) else int(second)]
                own = [formula_safe(g.values[g.code[row]]) if g.code[row] >= 0 else "" for g in groups]
                writer.writerow([formula_safe(name), int(ratings.human[row]), *given, ratings.expected[row], *own])
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from error


def _task(assessed: Assessment, cell: int) -> Record:
    return {
        "task": assessed.tasks[cell],
        **_verdict(assessed.overall, cell),
        "item": _verdict(assessed.item, cell),
        "criteria": {c.title: _verdict(judged, cell) for c, judged in assessed.judged.items()},
        "versions": list(assessed.versions[cell]),
        "statistics": dict(figures(assessed.found, cell)),
        "confusion": assessed.confusion[cell].tolist(),
        **_confidence(assessed, cell),
    }


def _groups(assessed: Assessment) -> Iterator[Record]:
    groups = assessed.groups
    for cell in range(0 if groups is None else len(groups.task)):
        assert groups is not None
        yield {
            "task": (*assessed.tasks, ALL)[groups.task[cell]],
            "column": groups.column[cell],
            "group": groups.value[cell],
            "criteria": {c.title: _verdict(judged, cell) for c, judged in groups.judged.items()},
            "statistics": dict(figures(groups.found, cell)),
        }


def _confidence(assessed: Assessment, cell: int) -> Record:
    sure = assessed.confidence
    bins = zip(sure.rows[cell], sure.stated[cell], sure.right[cell], strict=True)
    return {
        "calibration_error": _number(sure.error[cell]),
        "reliability": [{"rows": int(n), "stated": _number(p), "right": _number(q)} for n, p, q in bins if n],
        "right_among_most_confident": [_number(share) for share in sure.kept[cell]],
        "ranges": {name: _number(column[cell]) for name, column in vars(assessed.ranges).items()},
        "routing": {name: _number(column[cell]) for name, column in vars(assessed.routing).items()},
    }


def _verdict(judged: Judged | None, cell: int) -> Record:
    if judged is None:
        return {"verdict": None, "rows_needed": None}
    needed = _number(judged.needed[cell])
    return {"verdict": str(Verdict(int(judged.verdict[cell]))), "rows_needed": None if needed is None else int(needed)}


def _number(value: Any) -> float | None:
    return float(value) if math.isfinite(value) else None


def _write_csv(path: Path, rows: list[Record]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(
            {**row, "group": formula_safe(row["group"]), "column": formula_safe(row["column"])} for row in rows
        )


def _write_json(path: Path, rows: list[Record]) -> None:
    path.write_text(json.dumps(rows, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def _write_parquet(path: Path, rows: list[Record]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {
        "value": pa.float64(),
        "low": pa.float64(),
        "high": pa.float64(),
        "n": pa.int64(),
        "rows_needed": pa.int64(),
    }
    pq.write_table(
        pa.Table.from_pylist(rows, pa.schema([(name, kinds.get(name, pa.string())) for name in COLUMNS])), path
    )
