"""Two outputs of the same rows: which levels moved, how far, in which direction, and whether agreement changed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scoremux_assess.labels.joined_columns import JoinedColumns, KnownColumns, LeftOut, ScoredColumns
from scoremux_assess.labels.joining import EXAMPLES, UNKNOWN_LEVELS, join, join_truth, levels_by_task, versions_of
from scoremux_assess.labels.labelled_row import LABEL_COLUMNS, LabelColumns
from scoremux_assess.labels.ratings import Floats, Ints, Ratings, kinds
from scoremux_assess.labels.scored_output import read_scored
from scoremux_assess.labels.trained_rows import TrainedVersions
from scoremux_assess.labels.weights import Sample
from scoremux_assess.statistics.agreement import BY_NAME
from scoremux_assess.statistics.estimates import Estimates, joined_estimates, mean_of
from scoremux_assess.statistics.intervals import estimates
from scoremux_client.errors import InputError
from scoremux_files.rows.columns import Codes

CHANGES = {"exact": "change in exact agreement", "qwk": "change in QWK", "r": "change in Pearson r"}
"""Agreement with the human, new minus old, on the same rows."""

ALL, MEAN = "all rows", "mean of tasks"


@dataclass(frozen=True)
class Comparison:
    """Rows that have a level in both outputs.

    Attributes:
        names: Tasks, `ALL`, then `column: value` of each group, one a cell.
        shares: Of rows whose level `moved`, went `up`, went `down`, is `far` away: at least two levels.
        old, new, changes: Of `CHANGES`, over rows with a known level, weighted; empty without a truth.
        population: What rows these are about, where these are not simply the rows themselves; else empty.
        moves: Of all rows, how many moved by how many levels.
        left_out: Rows that are not compared, and why.
    """

    names: tuple[str, ...]
    shares: dict[str, Estimates]
    old: dict[str, Estimates]
    new: dict[str, Estimates]
    changes: dict[str, Estimates]
    population: str
    moves: dict[int, int]
    left_out: tuple[LeftOut, ...]


def compare_levels(
    old: npt.NDArray[Any],
    new: npt.NDArray[Any],
    human: Floats,
    cell: npt.NDArray[Any],
    cells: int,
    weight: Floats | None = None,
    student: npt.NDArray[Any] | None = None,
) -> tuple[dict[str, Estimates], ...]:
    """Return shares of rows that moved, then old, new and change of the figures in `CHANGES`, with 95 % intervals.

    Args:
        old, new: Levels of both outputs, [B].
        human: Known levels, NaN where a row has none, [B].
        cell: Which cell a row is in, from 0, [B].
        weight: Of the rows with a known level, [B]; shares are of all rows, which count equally.
        student: A number for the student who wrote each row, [B]; None if rows are independent.
    """
    rows = Ratings.of(old, new, human, weight=weight)
    if student is None:
        rows, cell = kinds(rows, cell)
    step, ones = rows.machine - rows.human, np.ones(len(rows))
    masks = {"moved": step != 0, "up": step > 0, "down": step < 0, "far": np.abs(step) >= 2}
    parts = {
        name: replace(rows, human=mask.astype(np.float64), machine=ones, weight=ones) for name, mask in masks.items()
    }
    shares = {name: estimates([BY_NAME["exact"]], part, cell, cells, student)["exact"] for name, part in parts.items()}
    # The old level in the place of a second human: his agreement is the old one, and the degradation is the change.
    has_truth = ~np.isnan(rows.second)
    both = replace(rows, human=rows.second, second=rows.human).take(has_truth)
    names = [f"{prefix}{name}" for name in CHANGES for prefix in ("", "degradation_")]
    who = None if student is None else student[has_truth]
    figures = estimates([BY_NAME[name] for name in names], both, cell[has_truth], cells, who)
    before = replace(both, machine=both.second)
    was = estimates([BY_NAME[name] for name in CHANGES], before, cell[has_truth], cells, who)
    return shares, was, *({name: figures[prefix + name] for name in CHANGES} for prefix in ("", "degradation_"))


def compare(
    old: Path,
    new: Path,
    truth: Path | None = None,
    columns_of_truth: LabelColumns = LABEL_COLUMNS,
    tasks: Path | None = None,
) -> Comparison:
    """Compare two outputs of `scoremux score`, row by row. tasks: the store, see `read_joined`.

    Raises:
        InputError: a file cannot be read, or the outputs have no row in common.
    """
    before, after = read_scored(old), read_scored(new)
    nan, no = np.full(len(before.level), np.nan), np.zeros(len(before.level), bool)
    levels_of_old = KnownColumns(
        ids=before.ids,
        task=before.task,
        level=before.level,
        second=nan,
        groups={},
        student=None,
        sample=Sample(np.ones(len(nan)), no, no, ~no, ~no),
        version=before.version,
        unusable=no,
        length=None,
        left_out=(),
        administration=before.administration,
    )
    pairs = _of_one_scale(join(after, levels_of_old, ("NEW", "OLD")), before, after)
    if not len(pairs):
        reasons = "; ".join(f"{rows.count:,} {rows.reason}" for rows in pairs.left_out)
        raise InputError(f"{old} and {new} have no scored row in common" + (f" ({reasons})" if reasons else ""))
    joined = None
    if truth is not None:
        trained = TrainedVersions.read(tasks, (*versions_of(before), *versions_of(after)))
        joined = join_truth(after, truth, columns_of_truth, trained)
    human, weight, student, columns = _truth_by_row(len(after.level), joined)
    human, weight = human[pairs.output], weight[pairs.output]
    student = None if student is None else student[pairs.output]
    names = list[str]()
    parts = list[tuple[dict[str, Estimates], ...]]()
    for cells, rows, cell in _cells(pairs.scored.task, {n: codes.take(pairs.output) for n, codes in columns.items()}):
        names += cells
        levels = (pairs.ratings.human[rows], pairs.ratings.machine[rows], human[rows])
        who = None if student is None else student[rows]
        part = compare_levels(*levels, cell, len(cells), weight[rows], who)
        if parts and len(parts[0][0]["moved"].n) > 1:  # several tasks together, whose scales differ
            part = (part[0], *({**kind, "qwk": _undefined(kind["qwk"])} for kind in part[1:]))
        parts.append(part)
        if cells == [ALL]:
            names.append(MEAN)
            parts.append(tuple({name: mean_of(figure) for name, figure in kind.items()} for kind in parts[0]))
    shares, *agreement = (
        {n: joined_estimates([p[kind][n] for p in parts]) for n in parts[0][kind]} for kind in range(4)
    )
    steps, counts = np.unique(pairs.ratings.machine - pairs.ratings.human, return_counts=True)
    moves = dict(zip(steps.astype(int).tolist(), counts.tolist(), strict=True))
    others = () if joined is None else joined.left_out
    left_out = (*pairs.left_out, *(part for part in others if part not in pairs.left_out))
    was, now, changes = agreement if truth else ({}, {}, {})
    return Comparison(tuple(names), shares, was, now, changes, joined.population if joined else "", moves, left_out)


def _undefined(estimate: Estimates) -> Estimates:
    none = np.full(len(estimate.value), np.nan)
    return replace(estimate, value=none, low=none, high=none)


def _of_one_scale(pairs: JoinedColumns, before: ScoredColumns, after: ScoredColumns) -> JoinedColumns:
    """Leave out the rows of tasks that have another number of levels in the new output than in the old one."""
    old = dict(zip(before.task.values, levels_by_task(before).tolist(), strict=True))
    new = dict(zip(after.task.values, levels_by_task(after).tolist(), strict=True))
    changed = [n for n in old.keys() & new.keys() if old[n] != new[n] and UNKNOWN_LEVELS not in (old[n], new[n])]
    other = np.isin(pairs.scored.task.code, [after.task.place(name) for name in changed])
    rows, kept = np.flatnonzero(other), np.flatnonzero(~other)
    if not len(rows):
        return pairs
    scales = ", ".join(f"{name} {old[name]} and {new[name]}" for name in sorted(changed)[:EXAMPLES])
    reason = f"are of tasks whose number of levels changed ({scales}), so that levels cannot be compared"
    left_out = LeftOut(reason, len(rows), tuple(map(str, pairs.scored.ids.take(rows[:EXAMPLES]).to_pylist())))
    return replace(
        pairs,
        scored=pairs.scored.take(kept),
        ratings=pairs.ratings.take(kept),
        output=pairs.output[kept],
        left_out=(left_out, *pairs.left_out),
    )


def _truth_by_row(rows: int, joined: JoinedColumns | None) -> tuple[Floats, Floats, Ints | None, dict[str, Codes]]:
    """Return what the truth knows of each row of an output: the level, NaN for none; its weight; student; groups."""
    human, weight, columns = np.full(rows, np.nan), np.ones(rows), dict[str, Codes]()
    if joined is None:
        return human, weight, None, columns
    human[joined.output], weight[joined.output] = joined.ratings.human, joined.ratings.weight
    for name, codes in joined.truth.groups.items():
        code = np.full(rows, -1, np.int32)
        code[joined.output] = codes.code
        columns[name] = replace(codes, code=code)
    student = joined.students()
    if student is not None:  # each row that the truth does not have is of another student
        of_truth, student = student, student.max(initial=-1) + 1 + np.arange(rows)
        student[joined.output] = of_truth
    return human, weight, student, columns


def _cells(task: Codes, columns: dict[str, Codes]) -> Iterator[tuple[list[str], Any, npt.NDArray[Any]]]:
    """Yield names of cells, the rows that are in one of them, and which."""
    used, place = np.unique(task.code, return_inverse=True)
    yield [task.values[code] for code in used], slice(None), place.reshape(-1)
    yield [ALL], slice(None), np.zeros(len(task.code), np.int64)
    for name, codes in columns.items():
        rows = np.flatnonzero(codes.code >= 0)
        used, place = np.unique(codes.code[rows], return_inverse=True)
        yield [f"{name}: {codes.values[code]}" for code in used], rows, place.reshape(-1)
