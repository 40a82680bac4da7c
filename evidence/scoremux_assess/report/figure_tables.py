"""An assessment as JSON, as a table with a row for each figure, and as input of RSMTool."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scoremux_assess.conclusions.assessment import Assessment
from scoremux_assess.conclusions.comparison import Comparison
from scoremux_assess.conclusions.groups import Groups
from scoremux_assess.conclusions.totals import Totals
from scoremux_assess.conclusions.verdicts import Criterion, Judgement, Verdict
from scoremux_assess.labels.joined_columns import JoinedColumns, LeftOut
from scoremux_assess.statistics.estimates import Figures
from scoremux_files.atomic import replace_file
from scoremux_files.errors import InputError, writing
from scoremux_files.rows.writers import write_rows

ALL, MEAN = "all rows", "mean of tasks"
SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("task", "column", "group", "statistic")),
        *((name, pa.float64()) for name in ("value", "low", "high")),
        ("n", pa.int64()),
        ("verdict", pa.string()),
        ("rows_needed", pa.int64()),
    ]
)
"""Of the table. column, group: a column of the truth and its value; empty for a whole task. value, low, high: null
where the figure is not defined. rows_needed: how many rows would decide, where there are not enough."""

FORMAT = 1

OF_LEVELS = ("exact", "sem", "machine_sem")
"""Figures of each level of a task."""

Record = dict[str, Any]


def records(assessed: Assessment) -> Iterator[Record]:
    """Yield a row for each figure: of the tasks, of all rows, of the groups."""
    names, groups = (*assessed.tasks, ALL), assessed.groups
    for cell, task in enumerate(names):
        judged = assessed.judged if cell < len(assessed.tasks) else {}
        yield from _records({"task": task, "column": "", "group": ""}, assessed.figures, judged, cell)
    yield from _records({"task": MEAN, "column": "", "group": ""}, assessed.means, {}, 0)
    if groups is not None:
        names_by_cell = dict(_group_names(assessed, groups))
        for cell, names_of_group in names_by_cell.items():
            yield from _records(names_of_group, groups.figures, groups.judged, cell)
        for place, cell in enumerate(groups.of_all()):
            of_group = {"task": MEAN, "column": groups.column[cell], "group": groups.value[cell]}
            yield from _records(of_group, groups.means, {}, place)
        for cell, group in enumerate(groups.levels.group):
            statistic = f"dif_{groups.levels.level[cell]}"
            yield {**names_by_cell[group], "statistic": statistic, **_of_level(groups, cell)}
    yield from _fairness(assessed)


def _of_level(groups: Groups, cell: int) -> Record:
    """Return the figure of a level of a group, which has no verdict."""
    return figures_of({"dif": groups.levels.beyond}, cell)["dif"] | _verdict(None, cell)


def _fairness(assessed: Assessment) -> Iterator[Record]:
    """Yield a row for each figure of fairness; they have no intervals."""
    fairness, names = assessed.fairness, (*assessed.tasks, ALL)
    for cell in range(0 if fairness is None else len(fairness.column)):
        assert fairness is not None
        where = {"task": names[fairness.task[cell]], "column": fairness.column[cell], "group": ""}
        for name, values in fairness.figures.items():
            figure = {"value": _number(values[cell]), "low": None, "high": None, "n": int(fairness.n[cell])}
            yield {**where, "statistic": name, **figure, **_verdict(None, cell)}


def figures_of(figures: Figures, cell: int) -> dict[str, Record]:
    """Return the value, interval and number of rows of each statistic of a cell."""
    return {
        name: {key: _number(getattr(estimate, key)[cell]) for key in ("value", "low", "high")}
        | {"n": int(estimate.n[cell])}
        for name, estimate in figures.items()
    }


def as_json(assessed: Assessment, joined: JoinedColumns, provenance: Record) -> Record:
    """Return everything that the report shows, ready for `json.dumps`."""
    groups = assessed.groups
    return {
        "format": FORMAT,
        **provenance,
        "rows": len(joined),
        "left_out": [_left_out(rows) for rows in joined.left_out],
        "criteria": [{**c.model_dump(), "title": c.title} for c in assessed.criteria],
        "tasks": [_task(assessed, cell) for cell in range(len(assessed.tasks))],
        "population": joined.population,
        "all": {**_figures(assessed, -1), **_confidence(assessed, -1)},
        "mean_of_tasks": figures_of(assessed.means, 0),
        "groups": [names | _group(groups, cell) for cell, names in _group_names(assessed, groups)] if groups else [],
        "fairness": [
            {key: row[key] for key in ("task", "column", "statistic", "value", "n")} for row in _fairness(assessed)
        ],
        "totals": _totals(assessed.totals),
        "confidence_is_calibrated": joined.scored.calibrated,
    }


def _group(groups: Groups, cell: int) -> Record:
    levels = [
        {"level": int(groups.levels.level[n]), "gap": _number(groups.levels.gap[n]), **_of_level(groups, n)}
        for n in np.flatnonzero(groups.levels.group == cell)
    ]
    criteria = _verdicts(groups.judged, cell)
    return {"criteria": criteria, "statistics": figures_of(groups.figures, cell), "levels": levels}


def _totals(totals: Totals | str) -> Record | None:
    """Return students' totals; same: the share of them who pass and fail as by the other person."""
    if isinstance(totals, str):
        return {"why": totals} if totals else None
    kinds = {
        name: dict(zip(("mean", "sd"), totals.moments(name), strict=True))
        | {"passing": totals.passing(name).tolist()}
        | (figures_of(totals.figures[name], 0) if name in totals.figures else {})
        | ({"same": [_number(share) for share in totals.same[name].value]} if name in totals.same else {})
        for name in totals.by
    }
    return {"students": len(totals.by["people"]), "cuts": totals.cuts.tolist(), **kinds}


def write_table(path: Path, assessed: Assessment) -> None:
    """Write the figures to a .csv, .json or .parquet file. Raises InputError."""
    rows, suffix = list(records(assessed)), path.suffix.lower()
    if suffix not in (".csv", ".json", ".parquet"):
        raise InputError(f"{path}: figures are written to .csv, .json and .parquet files")
    if suffix == ".json":
        write_json(path, rows)
    else:
        write_rows(path, [pa.Table.from_pylist(rows, SCHEMA)], SCHEMA)


def write_comparison(path: Path, comparison: Comparison) -> None:
    """Write a comparison to a JSON file. Raises InputError."""
    parts = {"old": comparison.old, "new": comparison.new, "change": comparison.changes}
    cells = [
        {"name": name, **figures_of(comparison.shares, cell), **{k: figures_of(v, cell) for k, v in parts.items()}}
        for cell, name in enumerate(comparison.names)
    ]
    left_out = [_left_out(rows) for rows in comparison.left_out]
    write_json(path, {"format": FORMAT, "cells": cells, "rows_by_levels_moved": comparison.moves, "left_out": left_out})


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file. Raises InputError."""
    with writing(path):
        replace_file(path, [json.dumps(content, ensure_ascii=False, indent=1).encode(), b"\n"])


def write_rsm(path: Path, joined: JoinedColumns) -> None:
    """Write the input of RSMTool's rsmeval: spkitemid, sc1, sc2 if there is a second human, raw, and the groups.

    raw is the machine's level, which a report judges; `expected` is the mean level, and `weight`, where rows have one,
    that of the row, neither of which RSMTool reads. It takes no id twice: where one is, ids begin with task and
    administration.
    """
    ratings, ids, of = joined.ratings, joined.scored.ids, joined.scored.administration
    if len(ids.unique()) < len(ids):
        names = [joined.scored.task.texts(), *([] if of is None else [of.texts()]), ids]
        ids = pc.binary_join_element_wise(*(pc.fill_null(pc.cast(part, pa.string()), "") for part in names), "/")
    columns: dict[str, Any] = {"spkitemid": ids, "sc1": ratings.human}
    columns |= {"sc2": ratings.second} if (ratings.second == ratings.second).any() else {}
    columns |= {"raw": ratings.machine, "expected": ratings.expected}
    columns |= {"weight": ratings.weight} if (ratings.weight != 1).any() else {}
    columns |= {name: codes.texts() for name, codes in joined.truth.groups.items()}
    table = pa.table({n: pa.array(c, from_pandas=True) if isinstance(c, np.ndarray) else c for n, c in columns.items()})
    write_rows(path, [table], table.schema)


def _records(names: Record, figures: Figures, judged: Mapping[Criterion, Judgement], cell: int) -> Iterator[Record]:
    by_name = {criterion.statistic: judgement for criterion, judgement in judged.items()}
    for statistic, values in figures_of(figures, cell).items():
        yield {**names, "statistic": statistic, **values, **_verdict(by_name.get(statistic), cell)}


def _group_names(assessed: Assessment, groups: Groups) -> Iterator[tuple[int, Record]]:
    """Yield each cell of the groups with its task, column and value."""
    names = (*assessed.tasks, ALL)
    for cell, (task, column, value) in enumerate(zip(groups.task, groups.column, groups.value, strict=True)):
        yield cell, {"task": names[task], "column": column, "group": value}


def _figures(assessed: Assessment, cell: int) -> Record:
    return {
        "statistics": figures_of(assessed.figures, cell),
        "students": None if assessed.students is None else int(assessed.students[cell]),
    }


def _task(assessed: Assessment, cell: int) -> Record:
    levels = assessed.by_level[cell]
    return {
        "task": assessed.tasks[cell],
        **_verdict(assessed.overall, cell),
        "item": _verdict(assessed.item, cell),
        "criteria": _verdicts(assessed.judged, cell),
        "versions": list(assessed.versions[cell]),
        **_figures(assessed, cell),
        "confusion": levels.confusion.tolist(),
        "confusion_of_humans": levels.humans.tolist(),
        "by_level": [
            {"level": level, **figures_of({name: getattr(levels, name) for name in OF_LEVELS}, place)}
            for place, level in enumerate(levels.levels)
        ],
        "left_out_share": float(assessed.dropped[cell]),
        **_confidence(assessed, cell),
    }


def _confidence(assessed: Assessment, cell: int) -> Record:
    reliability = assessed.confidence
    bins = zip(reliability.rows[cell], reliability.stated[cell], reliability.right[cell], strict=True)
    return {
        "calibration_error": _number(reliability.error[cell]),
        "reliability": [{"rows": int(n), "stated": _number(p), "right": _number(q)} for n, p, q in bins if n],
        "right_among_most_confident": [_number(share) for share in reliability.kept[cell]],
        "right_among_most_confident_low": [_number(share) for share in reliability.kept_low[cell]],
        "right_among_most_confident_high": [_number(share) for share in reliability.kept_high[cell]],
        "ranges": {name: _number(column[cell]) for name, column in vars(assessed.ranges).items()},
        "routing": {name: _number(column[cell]) for name, column in vars(assessed.routing).items()},
    }


def _verdicts(judged: Mapping[Criterion, Judgement], cell: int) -> Record:
    return {criterion.title: _verdict(judgement, cell) for criterion, judgement in judged.items()}


def _verdict(judgement: Judgement | None, cell: int) -> Record:
    if judgement is None:
        return {"verdict": None, "rows_needed": None}
    needed = _number(judgement.needed[cell])
    verdict = Verdict(int(judgement.verdict[cell]))
    return {"verdict": str(verdict), "rows_needed": None if needed is None else int(needed)}


def _left_out(rows: LeftOut) -> Record:
    return {"reason": rows.reason, "rows": rows.count, "examples": list(rows.examples)}


def _number(value: Any) -> float | None:
    return float(value) if math.isfinite(value) else None
