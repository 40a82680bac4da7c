"""Two outputs of the same rows: which levels moved, how far, in which direction, and whether agreement changed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from scoremux_client.errors import InputError
from scoremux_evidence.figures.estimates import Estimates, Figures, joined_figures, means_of
from scoremux_evidence.figures.intervals import estimates
from scoremux_evidence.rows.label_columns import LABEL_COLUMNS, LabelColumns
from scoremux_evidence.rows.matching import Matched, match, match_truth
from scoremux_evidence.rows.scored_output import UNKNOWN_LEVELS, level_counts, read_scored, versions_of
from scoremux_evidence.rows.table import (
    LEAST_STUDENTS,
    Mask,
    Reasons,
    Rows,
    Values,
    own_numbers,
    rated,
    students_in,
    units_of,
)
from scoremux_evidence.verdicts.totals import Totals, measure_totals
from scoremux_files.rows.codes import Codes

CHANGES = {"exact": "change in exact agreement", "qwk": "change in QWK", "r": "change in Pearson r"}
"""Agreement with the human, new minus old, on the same rows."""

ALL, MEAN = "all rows", "mean of tasks"
_MOST_NAMED = 5


@dataclass(frozen=True)
class Comparison:
    """Rows that have a level in both outputs.

    Attributes:
        names: Tasks, `ALL`, then `column: value` of each group, one a cell.
        shares: Of rows whose level `moved`, went `up`, went `down`, is `far` away: at least two levels.
        old, new, changes: Of `CHANGES`, over rows with a known level, weighted; empty without a truth.
        population: Which rows the figures are about, where these are not simply the rows themselves; else empty.
        totals: Of students under the old output and under the new one, or why there are none.
        moves: Of all rows, how many moved by how many levels.
        left_out: Rows that are not compared, and why.
    """

    names: tuple[str, ...]
    shares: Figures
    old: Figures
    new: Figures
    changes: Figures
    population: str
    totals: tuple[Totals, Totals] | str
    moves: dict[int, int]
    left_out: Reasons


def compare_levels(rows: Rows, cell: Values, cells: int) -> tuple[Figures, ...]:
    """Return shares of rows that moved, then old, new and change of the figures in `CHANGES`, with 95 % intervals.

    Args:
        rows: The level of the old output in the place of a human's, that of the new one in the place of the machine's,
            and the known level, NaN where a row has none, in the place of a second human's. The weights are those of
            rows with a known level; shares are of all rows, which count equally.
        cell: Which cell a row is in, from 0, [B].
    """
    step = rows.machine - rows.human
    ones = np.ones(len(rows))

    def share(mask: Mask) -> Estimates:
        part = rows.plus(human=mask.astype(np.float64), machine=ones, weight=ones)
        return estimates(["exact"], part, cell, cells)["exact"]

    shares = {
        "moved": share(step != 0),
        "up": share(step > 0),
        "down": share(step < 0),
        "far": share(np.abs(step) >= 2),
    }
    has_truth = ~np.isnan(rows.second)
    # The old level in the place of a second human: his agreement is the old one, and the degradation is the change.
    both = rows.plus(human=rows.second, second=rows.human).where(has_truth)

    def figures(ratings: Rows, prefix: str) -> Figures:
        found = estimates([prefix + name for name in CHANGES], ratings, cell[has_truth], cells)
        return {name: found[prefix + name] for name in CHANGES}

    was = figures(both.plus(machine=both.second), "")
    return shares, was, figures(both, ""), figures(both, "degradation_")


def compare(
    old: Path,
    new: Path,
    truth: Path | None = None,
    columns_of_truth: LabelColumns = LABEL_COLUMNS,
    tasks: Path | None = None,
    cuts: Sequence[float] = (),
) -> Comparison:
    """Compare two outputs of `scoremux score`, row by row. tasks: the store, see `match_files`. cuts: of totals.

    Raises:
        InputError: a file cannot be read, or the outputs have no row in common.
    """
    before, after = _of_one_scale(read_scored(old), read_scored(new))
    pairs = match(after, _as_known(before), ("NEW", "OLD"))
    left_out = pairs.rows.left_out
    if not len(pairs):
        reasons = "; ".join(f"{len(rows):,} {reason}" for reason, rows in left_out.items())
        raise InputError(f"{old} and {new} have no scored row in common" + (f" ({reasons})" if reasons else ""))
    known = None
    if truth is not None:
        known = match_truth(after, truth, columns_of_truth, tasks, versions=versions_of(before))
        left_out = {**left_out, **known.rows.left_out}
    ratings, groups = _with_truth(pairs, known, len(after))
    names, (shares, *agreement) = _by_cell(ratings, pairs.rows.task, groups)
    steps, counts = np.unique(ratings.machine - ratings.human, return_counts=True)
    was, now, changes = agreement if truth else ({}, {}, {})
    return Comparison(
        names=tuple(names),
        shares=shares,
        old=was,
        new=now,
        changes=changes,
        population=known.population if known else "",
        totals=_totals(pairs, known, len(after), cuts) if known else "",
        moves=dict(zip(steps.astype(int).tolist(), counts.tolist(), strict=True)),
        left_out=left_out,
    )


def _totals(pairs: Matched, known: Matched, rows: int, cuts: Sequence[float]) -> tuple[Totals, Totals] | str:
    """Return totals of the rows with a known level, by the old and the new levels. rows: of the new output."""
    old = np.full(rows, np.nan)
    old[pairs.output] = pairs.rows.human
    old = old[known.output]
    both = ~np.isnan(old)
    new = replace(known, rows=known.rows.where(both), output=known.output[both])
    used, task = np.unique(new.rows.task.code, return_inverse=True)
    before, after = (
        measure_totals(of, task, len(used), cuts) for of in (replace(new, rows=new.rows.plus(machine=old[both])), new)
    )
    return before if isinstance(before, str) else (before, after) if not isinstance(after, str) else after


def _as_known(scored: Rows) -> Rows:
    """Return the levels of the old output in the place of a human's."""
    no = np.zeros(len(scored), bool)
    known = scored.only(("id", "task", "version", "administration"))
    return known.plus(
        human=scored.machine,
        second=np.full(len(scored), np.nan),
        weight=np.ones(len(scored)),
        chosen_by=Codes((), np.full(len(scored), -1, np.int32)),
        stated=~no,
        unusable=no,
        length=np.full(len(scored), np.nan),
    ).counting({"have no score in OLD": np.isnan(scored.machine)})


def _by_cell(ratings: Rows, task: Codes, groups: dict[str, Codes]) -> tuple[list[str], list[Figures]]:
    """Return the names of cells, and their figures from `compare_levels`."""
    names = []
    parts = list[tuple[Figures, ...]]()
    for cells, rows, cell in _cells(task, groups):
        names += cells
        of_cells = ratings.where(rows)
        part = compare_levels(of_cells, cell, len(cells))
        if len(parts) > 1:  # groups
            few = students_in(cell, len(cells), of_cells.get("writer")) < LEAST_STUDENTS
            part = tuple({name: figures.without(few) for name, figures in kind.items()} for kind in part)
        if parts and len(parts[0][0]["moved"].n) > 1:  # several tasks together, whose scales differ
            part = (part[0], *({**kind, "qwk": kind["qwk"].without(np.array([True]))} for kind in part[1:]))
        parts.append(part)
        if cells == [ALL]:
            names.append(MEAN)
            parts.append(tuple(means_of(kind) for kind in parts[0]))
    return names, [joined_figures(kind) for kind in zip(*parts, strict=True)]


def _of_one_scale(before: Rows, after: Rows) -> list[Rows]:
    """Leave out the rows of tasks that have another number of levels in the new output than in the old one."""
    old, new = (dict(zip(of.task.values, level_counts(of).tolist(), strict=True)) for of in (before, after))
    changed = [
        n for n in sorted(old.keys() & new.keys()) if old[n] != new[n] and UNKNOWN_LEVELS not in (old[n], new[n])
    ]
    scales = ", ".join(f"{name} {old[name]} and {new[name]}" for name in changed[:_MOST_NAMED])
    reason = f"are of tasks whose number of levels changed ({scales}), so that levels cannot be compared"
    return [of.without({reason: of.task.among(changed)}) for of in (before, after)]


def _with_truth(pairs: Matched, known: Matched | None, rows: int) -> tuple[Rows, dict[str, Codes]]:
    """Return the ratings for `compare_levels`, and the groups of their rows. rows: how many the new output has."""
    human, machine = pairs.rows.human, pairs.rows.machine
    if known is None:
        return rated(human, machine), {}
    place = np.full(rows, -1)
    place[known.output] = np.arange(len(known))
    place = place[pairs.output]  # −1: the last, which is appended for rows without a known level
    student = units_of(known.rows)
    ratings = rated(
        human,
        machine,
        np.append(known.rows.human, np.nan)[place],
        weight=np.append(known.rows.weight, 1.0)[place],
        student=None if student is None else own_numbers(np.append(student, -1)[place]),
    )
    if "student" in known.rows:
        ratings = ratings.plus(writer=own_numbers(np.append(known.rows.student, -1)[place]))
    groups = known.groups.items()
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
