"""An assessment as JSON, and as a table with a row for each figure."""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from scoremux_evidence.figures.estimates import Estimates, Figure, Figures
from scoremux_evidence.figures.reliability import RangeFigures, Routing
from scoremux_evidence.rows.matching import Matched
from scoremux_evidence.rows.table import Floats, Reasons
from scoremux_evidence.show.words import examples
from scoremux_evidence.verdicts.assessment import Assessment
from scoremux_evidence.verdicts.comparison import ALL, MEAN, Comparison
from scoremux_evidence.verdicts.items import ItemFigures
from scoremux_evidence.verdicts.totals import Totals
from scoremux_evidence.verdicts.verdicts import Judged, Judgement, Verdict
from scoremux_files.atomic import replace_file
from scoremux_files.errors import InputError, writing
from scoremux_files.rows.writers import write_rows

SCHEMA = pa.schema(
    [
        *((name, "string") for name in ("task", "column", "group", "statistic")),
        *((name, "float64") for name in ("value", "low", "high")),
        ("n", "int64"),
        ("verdict", "string"),
        ("rows_needed", "int64"),
    ]
)
"""Of the table. column, group: a column of the truth and its value; empty for a whole task. value, low, high: null
where the figure is not defined. rows_needed: how many rows would decide, where there are not enough."""

FORMAT = 1

Record = dict[str, Any]


def records(assessed: Assessment) -> Iterator[Record]:
    """Yield a row for each figure: of the tasks, of all rows, of the groups."""
    for cell, task in enumerate((*assessed.tasks, ALL)):
        judged = assessed.judged if cell < len(assessed.tasks) else {}
        yield from _records(_where(task), assessed.figures, judged, cell)
    yield from _records(_where(MEAN), assessed.means, {}, 0)
    groups = assessed.groups
    names = _group_names(assessed)
    for cell, where in enumerate(names):
        yield from _records(where, groups.figures, groups.judged, cell)
    for place, cell in enumerate(groups.of_all()):
        yield from _records(names[cell] | {"task": MEAN}, groups.means, {}, place)


def _where(task: str, column: str = "", group: str = "") -> Record:
    return {"task": task, "column": column, "group": group}


def _figure(estimate: Estimates, cell: int) -> Record:
    interval = zip(Figure._fields, map(_number, estimate.at(cell)), strict=True)
    return {**dict(interval), "n": int(estimate.n[cell])}


def figures_of(figures: Figures, cell: int) -> dict[str, Record]:
    """Return the value, interval and number of rows of each statistic of a cell."""
    return {name: _figure(estimate, cell) for name, estimate in figures.items()}


def as_json(assessed: Assessment, matched: Matched, provenance: Record) -> Record:
    """Return everything that the report shows, ready for `json.dumps`."""
    return {
        "format": FORMAT,
        **provenance,
        "rows": len(matched),
        "left_out": _left_out(matched.rows.left_out),
        "criteria": [{**c.model_dump(), "title": c.title} for c in assessed.criteria],
        "tasks": [_task(assessed, cell) for cell in range(len(assessed.tasks))],
        "population": matched.population,
        "all": {**_figures(assessed, -1), **_confidence(assessed, -1)},
        "mean_of_tasks": figures_of(assessed.means, 0),
        "groups": _groups(assessed),
        "totals": _totals(assessed.totals),
        "items": [_item(item) for item in assessed.items],
        "confidence_is_calibrated": bool(matched.rows.calibrated.any()),
    }


def _groups(assessed: Assessment) -> list[Record]:
    groups = assessed.groups
    return [
        {**names, "criteria": _verdicts(groups.judged, cell), "statistics": figures_of(groups.figures, cell)}
        for cell, names in enumerate(_group_names(assessed))
    ]


def _totals(totals: Totals | str) -> Record | None:
    """Return students' totals; same: the share of them who pass and fail as by the other person."""
    if isinstance(totals, str):
        return {"why": totals} if totals else None
    kinds = {}
    for name in totals.by:
        mean, sd = totals.moments(name)
        kinds[name] = {"mean": mean, "sd": sd, "passing": totals.passing(name).tolist()}
        if name in totals.same:
            kinds[name] |= {**figures_of(totals.figures[name], 0), "same": _numbers(totals.same[name].value)}
    return {"students": len(totals.by["people"]), "cuts": totals.cuts.tolist(), **kinds}


def _item(item: ItemFigures) -> Record:
    """Return the figures of an item's total and traits."""

    def numbers(figures: Mapping[str, Figure]) -> Record:
        return {name: {key: _number(value) for key, value in one._asdict().items()} for name, one in figures.items()}

    figures = {**figures_of(item.figures, 0), "reach": _number(item.reach)}
    return {"item": item.item, **figures, "halo": numbers(item.halo), "gains": numbers(item.gains)}


def write_table(path: Path, assessed: Assessment) -> None:
    """Write the figures to a .csv, .json or .parquet file. Raises InputError."""
    rows = list(records(assessed))
    suffix = path.suffix.lower()
    if suffix == ".json":
        write_json(path, rows)
    elif suffix in (".csv", ".parquet"):
        write_rows(path, [pa.Table.from_pylist(rows, SCHEMA)], SCHEMA)
    else:
        raise InputError(f"{path}: figures are written to .csv, .json and .parquet files")


def write_comparison(path: Path, comparison: Comparison) -> None:
    """Write a comparison to a JSON file. Raises InputError."""
    parts = {"old": comparison.old, "new": comparison.new, "change": comparison.changes}
    cells = [
        {"name": name, **figures_of(comparison.shares, cell), **{k: figures_of(v, cell) for k, v in parts.items()}}
        for cell, name in enumerate(comparison.names)
    ]
    totals = comparison.totals
    content = {
        "format": FORMAT,
        "cells": cells,
        "totals": _totals(totals)
        if isinstance(totals, str)
        else dict(zip(("old", "new"), map(_totals, totals), strict=True)),
        "rows_by_levels_moved": comparison.moves,
        "left_out": _left_out(comparison.left_out),
    }
    write_json(path, content)


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file. Raises InputError."""
    with writing(path):
        replace_file(path, [json.dumps(content, ensure_ascii=False, indent=1).encode(), b"\n"])


def _left_out(reasons: Reasons) -> list[Record]:
    return [{"reason": why, "rows": len(rows), "examples": examples(rows)} for why, rows in reasons.items()]


def _records(names: Record, figures: Figures, judged: Judged, cell: int) -> Iterator[Record]:
    by_name = {criterion.statistic: judgement for criterion, judgement in judged.items()}
    for statistic, values in figures_of(figures, cell).items():
        yield {**names, "statistic": statistic, **values, **_verdict(by_name.get(statistic), cell)}


def _group_names(assessed: Assessment) -> list[Record]:
    """Return the task, column and value of each cell of the groups."""
    groups = assessed.groups
    names = (*assessed.tasks, ALL)
    cells = zip(groups.task, groups.column, groups.value, strict=True)
    return [_where(names[task], column, value) for task, column, value in cells]


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
        "verdict_in_file": _verdict(assessed.of_file, cell)["verdict"],
        "item": _verdict(assessed.item, cell),
        "criteria": _verdicts(assessed.judged, cell),
        "versions": list(assessed.versions[cell]),
        **_figures(assessed, cell),
        "confusion": levels.confusion.tolist(),
        "confusion_of_humans": levels.humans.tolist(),
        "by_level": [
            {"level": level, "exact": _figure(levels.exact, place)} for place, level in enumerate(levels.levels)
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
        "right_among_most_confident": _numbers(reliability.kept[cell]),
        "right_among_most_confident_low": _numbers(reliability.kept_low[cell]),
        "right_among_most_confident_high": _numbers(reliability.kept_high[cell]),
        "ranges": _cell(assessed.ranges, cell),
        "routing": _cell(assessed.routing, cell),
    }


def _cell(figures: RangeFigures | Routing, cell: int) -> Record:
    return {name: _number(column[cell]) for name, column in vars(figures).items()}


def _verdicts(judged: Judged, cell: int) -> Record:
    return {criterion.title: _verdict(judgement, cell) for criterion, judgement in judged.items()}


def _verdict(judgement: Judgement | None, cell: int) -> Record:
    if judgement is None:
        return {"verdict": None, "rows_needed": None}
    needed = _number(judgement.needed[cell])
    verdict = Verdict(int(judgement.verdict[cell]))
    return {"verdict": str(verdict), "rows_needed": None if needed is None else int(needed)}


def _number(value: Any) -> float | None:
    return float(value) if math.isfinite(value) else None


def _numbers(values: Floats) -> list[float | None]:
    return [_number(value) for value in values]
