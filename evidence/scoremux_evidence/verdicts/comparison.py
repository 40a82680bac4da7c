"""Two outputs of the same rows: which levels moved, how far, in which direction, and whether agreement changed."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from scoremux_client.errors import InputError
from scoremux_evidence.figures.estimates import Estimates, Figures, joined_figures, means_of
from scoremux_evidence.figures.intervals import estimates
from scoremux_evidence.rows.joined_columns import (
    EXAMPLES,
    UNKNOWN_LEVELS,
    JoinedColumns,
    KnownColumns,
    LeftOut,
    ScoredColumns,
    taken,
)
from scoremux_evidence.rows.joining import join, join_truth
from scoremux_evidence.rows.labelled_row import LABEL_COLUMNS, LabelColumns
from scoremux_evidence.rows.ratings import Mask, Ratings, Values, fewer_rows, own_numbers
from scoremux_evidence.rows.scored_output import read_scored
from scoremux_evidence.rows.trained_rows import TrainedVersions
from scoremux_evidence.rows.weights import Sample
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
        population: Which rows the figures are about, where these are not simply the rows themselves; else empty.
        moves: Of all rows, how many moved by how many levels.
        left_out: Rows that are not compared, and why.
    """

    names: tuple[str, ...]
    shares: Figures
    old: Figures
    new: Figures
    changes: Figures
    population: str
    moves: dict[int, int]
    left_out: tuple[LeftOut, ...]


def compare_levels(
    rows: Ratings,
    cell: Values,
    cells: int,
) -> tuple[Figures, ...]:
    """Return shares of rows that moved, then old, new and change of the figures in `CHANGES`, with 95 % intervals.

    Args:
        rows: The level of the old output in the place of a human's, that of the new one in the place of the machine's,
            and the known level, NaN where a row has none, in the place of a second human's. The weights are those of
            rows with a known level; shares are of all rows, which count equally.
        cell: Which cell a row is in, from 0, [B].
    """
    rows, cell = fewer_rows(rows, cell)
    step = rows.machine - rows.human
    ones = np.ones(len(rows))

    def share(mask: Mask) -> Estimates:
        part = replace(
            rows,
            human=mask.astype(np.float64),
            machine=ones,
            weight=ones,
        )
        return estimates(["exact"], part, cell, cells)["exact"]

    shares = {
        "moved": share(step != 0),
        "up": share(step > 0),
        "down": share(step < 0),
        "far": share(np.abs(step) >= 2),
    }
    has_truth = ~np.isnan(rows.second)
    # The old level in the place of a second human: his agreement is the old one, and the degradation is the change.
    both = replace(rows, human=rows.second, second=rows.human).take(has_truth)

    def figures(ratings: Ratings, prefix: str) -> Figures:
        found = estimates(
            [prefix + name for name in CHANGES],
            ratings,
            cell[has_truth],
            cells,
        )
        return {name: found[prefix + name] for name in CHANGES}

    was = figures(replace(both, machine=both.second), "")
    return shares, was, figures(both, ""), figures(both, "degradation_")


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
    before = read_scored(old)
    after = read_scored(new)
    pairs = _of_one_scale(join(after, _as_known(before), ("NEW", "OLD")), before, after)
    if not len(pairs):
        reasons = "; ".join(f"{left_out.rows:,} {left_out.reason}" for left_out in pairs.left_out)
        raise InputError(f"{old} and {new} have no scored row in common" + (f" ({reasons})" if reasons else ""))
    joined = None
    left_out = pairs.left_out
    if truth is not None:
        trained = TrainedVersions.read(tasks, (*before.versions, *after.versions))
        joined = join_truth(after, truth, columns_of_truth, trained)
        left_out += tuple(part for part in joined.left_out if part not in left_out)
    ratings, groups = _with_truth(pairs, joined, len(after.level))
    names, (shares, *agreement) = _by_cell(ratings, pairs.scored.task, groups)
    steps, counts = np.unique(ratings.machine - ratings.human, return_counts=True)
    moves = dict(zip(steps.astype(int).tolist(), counts.tolist(), strict=True))
    was, now, changes = agreement if truth else ({}, {}, {})
    population = joined.population if joined else ""
    return Comparison(
        names=tuple(names),
        shares=shares,
        old=was,
        new=now,
        changes=changes,
        population=population,
        moves=moves,
        left_out=left_out,
    )


def _as_known(scored: ScoredColumns) -> KnownColumns:
    """Return the levels of an output in the place of a human's."""
    rows = len(scored.level)
    no = np.zeros(rows, bool)
    return KnownColumns(
        ids=scored.ids,
        task=scored.task,
        level=scored.level,
        second=np.full(rows, np.nan),
        sample=Sample(
            weight=np.ones(rows),
            routed=no,
            behind=no,
            sampled=~no,
            stated=~no,
        ),
        version=scored.version,
        unusable=no,
        administration=scored.administration,
    )


def _by_cell(
    ratings: Ratings,
    task: Codes,
    groups: dict[str, Codes],
) -> tuple[list[str], list[Figures]]:
    """Return the names of cells, and their figures from `compare_levels`."""
    names = []
    parts = list[tuple[Figures, ...]]()
    for cells, rows, cell in _cells(task, groups):
        names += cells
        part = compare_levels(ratings.take(rows), cell, len(cells))
        if parts and len(parts[0][0]["moved"].n) > 1:  # several tasks together, whose scales differ
            part = (part[0], *({**kind, "qwk": _undefined(kind["qwk"])} for kind in part[1:]))
        parts.append(part)
        if cells == [ALL]:
            names.append(MEAN)
            parts.append(tuple(means_of(kind) for kind in parts[0]))
    return names, [joined_figures(kind) for kind in zip(*parts, strict=True)]


def _undefined(estimate: Estimates) -> Estimates:
    none = np.full(len(estimate.value), np.nan)
    return replace(estimate, value=none, low=none, high=none)


def _of_one_scale(pairs: JoinedColumns, before: ScoredColumns, after: ScoredColumns) -> JoinedColumns:
    """Leave out the rows of tasks that have another number of levels in the new output than in the old one."""
    old = dict(zip(before.task.values, before.levels.tolist(), strict=True))
    new = dict(zip(after.task.values, after.levels.tolist(), strict=True))
    changed = [n for n in old.keys() & new.keys() if old[n] != new[n] and UNKNOWN_LEVELS not in (old[n], new[n])]
    other = np.isin(
        pairs.scored.task.code,
        [after.task.place(name) for name in changed],
    )
    rows = np.flatnonzero(other)
    kept = np.flatnonzero(~other)
    if not len(rows):
        return pairs
    scales = ", ".join(f"{name} {old[name]} and {new[name]}" for name in sorted(changed)[:EXAMPLES])
    reason = f"are of tasks whose number of levels changed ({scales}), so that levels cannot be compared"
    left_out = LeftOut.of(reason, pairs.scored.ids, rows)
    return replace(
        pairs,
        scored=taken(pairs.scored, kept),
        ratings=pairs.ratings.take(kept),
        output=pairs.output[kept],
        left_out=(left_out, *pairs.left_out),
    )


def _with_truth(
    pairs: JoinedColumns,
    joined: JoinedColumns | None,
    rows: int,
) -> tuple[Ratings, dict[str, Codes]]:
    """Return the ratings for `compare_levels`, and the groups of their rows. rows: how many the new output has."""
    levels = (pairs.ratings.human, pairs.ratings.machine)
    if joined is None:
        return Ratings.of(*levels), {}
    known = joined.ratings
    place = np.full(rows, -1)
    place[joined.output] = np.arange(len(joined))
    place = place[pairs.output]  # −1: the last, which is appended for rows without a known level
    student = known.students
    ratings = Ratings.of(
        *levels,
        np.append(known.human, np.nan)[place],
        weight=np.append(known.weight, 1.0)[place],
        student=None if student is None else own_numbers(np.append(student, -1)[place]),
    )
    groups = joined.truth.groups.items()
    return ratings, {name: Codes(of.values, np.append(of.code, np.int32(-1))[place]) for name, of in groups}


def _cells(task: Codes, columns: dict[str, Codes]) -> Iterator[tuple[list[str], Any, Values]]:
    """Yield names of cells, the rows that are in one of them, and which."""
    every = slice(None)
    used, place = np.unique(task.code, return_inverse=True)
    yield [task.values[code] for code in used], every, place
    yield [ALL], every, np.zeros_like(place)
    for name, codes in columns.items():
        rows = np.flatnonzero(codes.code >= 0)
        used, place = np.unique(codes.code[rows], return_inverse=True)
        names = [f"{name}: {codes.values[code]}" for code in used]
        yield names, rows, place
