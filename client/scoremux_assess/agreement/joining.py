"""Scored rows beside the levels that humans gave them, and every row that cannot be compared, counted by reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from scoremux_assess.agreement.ratings import Floats, Ratings
from scoremux_client.contract import HUMAN
from scoremux_client.errors import InputError
from scoremux_files.rows.columns import Codes, Ints32, encode, levels, means, numbered, present_columns, texts
from scoremux_files.rows.writers import without_apostrophe

EXAMPLES = 5
"""Ids that are named for each reason."""

UNKNOWN_LEVELS = 256
"""How many levels a task has if the output has no probabilities: more than any scale."""

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Left:
    """Rows that are not compared, or only in part. reason: why; count: how many; examples: ids of some of them."""

    reason: str
    count: int
    examples: tuple[str, ...]


@dataclass(frozen=True)
class Scored:
    """What `scoremux score` wrote, B rows.

    ids: text. status, task (without a pinned digest), version: see `Codes`. level: NaN without a score. width: how many
    probabilities a row has. expected: the mean level under them. confidence: P(level = human's level), or the greatest
    probability where the output has none (`calibrated` tells); NaN without either. stated: the greatest probability.
    to_people: whether the row's route is to people, None where the output has no routes. low, high: the range of levels
    that holds a human's, NaN where there is none.
    """

    ids: Any
    status: Codes
    task: Codes
    version: Codes
    level: Floats
    width: Ints32
    expected: Floats
    confidence: Floats
    calibrated: bool
    stated: Floats
    to_people: Mask | None
    low: Floats
    high: Floats


@dataclass(frozen=True)
class Truth:
    """What humans gave, B rows.

    ids: text. task: None where the file has no such column. level, second: NaN where there is none. groups: column →
    values. student: None if no column names one. left: rows without a usable level.
    """

    ids: Any
    task: Codes | None
    level: Floats
    second: Floats
    groups: dict[str, Codes]
    student: Codes | None
    left: tuple[Left, ...]


@dataclass(frozen=True)
class Joined:
    """Rows that have both a score and a human's level, B of them.

    ids: text. output, truth: the place of each row in either file, from 0. levels: how many levels each task has.
    left: rows that are not compared, and why. The other fields are those of `Scored` and `Truth`.
    """

    ids: Any
    ratings: Ratings
    task: Codes
    groups: dict[str, Codes]
    student: Codes | None
    confidence: Floats
    calibrated: bool
    stated: Floats
    to_people: Mask | None
    low: Floats
    high: Floats
    version: Codes
    levels: Ints32
    output: npt.NDArray[np.int64]
    truth: npt.NDArray[np.int64]
    left: tuple[Left, ...]

    def __len__(self) -> int:
        return len(self.ratings)

    def students(self) -> npt.NDArray[np.int64] | None:
        """Return a number for who wrote each row, one of its own where that is not known; None if no column says it."""
        if self.student is None:
            return None
        return np.where(self.student.code < 0, len(self.student.values) + np.arange(len(self)), self.student.code)


def read_joined(
    output: Path,
    truth: Path,
    second: str | None = None,
    groups: Sequence[str] = (),
    student: str | None = None,
) -> Joined:
    """Read what `scoremux score` wrote and a file of known levels, and match their rows.

    Args:
        output: A file or folder that `scoremux score` wrote.
        truth: A .jsonl, .csv or .parquet file with the columns `id` and `level`.
        second: The truth's column of a second human's levels, where there are some.
        groups: Columns of the truth that name a group of students.
        student: The truth's column that names the student who wrote the response.

    Raises:
        InputError: a file cannot be read, a column is missing, or no row has both.
    """
    joined = join(read_scored(output), read_truth(truth, second, groups, student))
    if not len(joined):
        reasons = "; ".join(f"{left.count:,} {left.reason}" for left in joined.left)
        raise InputError(f"no row of {output} has a score and a level in {truth} ({reasons})")
    return joined


def read_truth(
    path: Path,
    second: str | None = None,
    groups: Sequence[str] = (),
    student: str | None = None,
    label: str = "level",
) -> Truth:
    """Read a file of known levels.

    Args:
        path: A .jsonl, .csv or .parquet file with the columns `id` and that of the levels.
        second: The column of a second human's levels, where there are some.
        groups: Columns that name a group of students.
        student: The column that names the student who wrote the response.
        label: The column of levels.

    Raises:
        InputError: the file cannot be read, or a column is missing.
    """
    needed = ["id", label, *([second] if second else []), *groups, *([student] if student else [])]
    columns = present_columns(path, [*needed, "task"], needed)
    ids, (level, bad) = texts(columns["id"]), levels(columns[label])
    again, again_bad = levels(columns[second]) if second else (np.full(len(ids), np.nan), np.zeros(len(ids), bool))
    codes = {name: encode(columns[name]) for name in groups}
    who = encode(columns[student]) if student else None
    return Truth(
        ids=ids,
        task=encode(columns["task"]) if "task" in columns else None,
        level=level,
        second=again,
        groups=codes,
        student=who,
        left=_reasons(
            ids,
            ("have no level in the truth", np.isnan(level) & ~bad),
            ("have a level in the truth that is not a whole number", bad),
            ("have a second level that is not a whole number, and count without it", again_bad),
            *([] if who is None else [(f"have no {student}, and each counts by itself", who.code < 0)]),
            *((f"have no {name}, and count for none of its groups", c.code < 0) for name, c in codes.items()),
        ),
    )


def read_scored(path: Path) -> Scored:
    """Read what `scoremux score` wrote. Raises InputError for a file that it did not write."""
    needed = ("id", "task", "status", "level")
    others = ("probabilities", "confidence", "version", "route", "level_low", "level_high")
    columns = present_columns(path, (*needed, *others), needed)
    ids = texts(columns["id"])
    if path.suffix.lower() == ".csv":
        ids = pa.array([None if i is None else without_apostrophe(i) for i in ids.to_pylist()], pa.string())
    status, (level, _) = encode(columns["status"]), levels(columns["level"])
    width, expected, greatest = means(columns.get("probabilities"), len(ids))
    low, high = (levels(columns[name])[0] if name in columns else np.full(len(ids), np.nan) for name in others[-2:])
    sure, route = (columns.get(name) for name in ("confidence", "route"))
    calibrated = sure is not None and sure.null_count < len(sure)
    return Scored(
        ids=ids,
        status=status,
        task=encode(columns["task"]).renamed(lambda task: task.partition("@")[0]),
        version=encode(columns["version"]) if "version" in columns else Codes((), np.full(len(ids), -1, np.int32)),
        level=np.where(status.code == status.place("OK"), level, np.nan),
        width=width,
        expected=np.where(width > 0, expected, level),
        confidence=pc.cast(sure, pa.float64()).to_numpy(zero_copy_only=False) if calibrated else greatest,
        calibrated=calibrated,
        stated=greatest,
        to_people=None if route is None else _begins(route, HUMAN),
        low=low,
        high=high,
    )


def join(scored: Scored, truth: Truth, names: tuple[str, str] = ("the output", "the truth")) -> Joined:
    """Match rows by id, or by id and task if the truth has tasks. A row of a repeated id is not compared.

    Args:
        scored: What the machine gave.
        truth: What humans gave.
        names: What the two are called in `left`.
    """
    output, known_levels = names
    ours, theirs, distinct = _matching(scored, truth)
    most, listed, usable = _levels_by_task(scored), ours >= 0, ~np.isnan(truth.level)
    with np.errstate(invalid="ignore"):
        odd = (scored.level < 0) | (scored.level >= np.append(most, 0)[scored.task.code])
    has_score = ~np.isnan(scored.level) & ~odd
    # The place after the last stands for what the truth does not have.
    where = np.full(distinct + 1, -1)
    where[theirs[usable]] = np.flatnonzero(usable)
    again = (np.bincount(ours[listed], minlength=distinct + 1) > 1)[ours] & listed
    unclear = (np.bincount(theirs[usable], minlength=distinct + 1) > 1)[ours]
    both = np.flatnonzero(has_score & (where[ours] >= 0) & ~again & ~unclear)
    rows = where[ours[both]]
    first, second, highest = truth.level[rows], truth.second[rows], most[scored.task.code[both]]
    off, off_second = (first < 0) | (first >= highest), (second < 0) | (second >= highest)
    statuses = ((f"have no score: {name}", scored.status.code == n) for n, name in enumerate(scored.status.values))
    absent = np.bincount(ours[listed], minlength=distinct + 1)[theirs] == 0
    left = _reasons(
        scored.ids,
        *(reason for reason, name in zip(statuses, scored.status.values, strict=True) if name != "OK"),
        (f"have a level in {output} that is off the task's scale, or no task", odd),
        (f"are scored and not in {known_levels}", has_score & ~listed),
        (f"are in {output} with an id that is there several times", has_score & again),
        (f"are scored and in {known_levels} several times", has_score & unclear),
        (f"have a level in {known_levels} that is off the task's scale", _at(both[off], len(ours))),
        ("have a second level off the task's scale, and count without it", _at(both[off_second], len(ours))),
    ) + _reasons(truth.ids, (f"are in {known_levels} and not in {output}", absent))
    kept, rows, second = both[~off], rows[~off], np.where(off_second, np.nan, second)[~off]
    return Joined(
        ids=scored.ids.take(pa.array(kept)),
        ratings=Ratings.of(truth.level[rows], scored.level[kept], second, scored.expected[kept]),
        task=scored.task.take(kept),
        groups={name: codes.take(rows) for name, codes in truth.groups.items()},
        student=None if truth.student is None else truth.student.take(rows),
        confidence=scored.confidence[kept],
        calibrated=scored.calibrated,
        stated=scored.stated[kept],
        to_people=None if scored.to_people is None else scored.to_people[kept],
        low=scored.low[kept],
        high=scored.high[kept],
        version=scored.version.take(kept),
        levels=most,
        output=kept,
        truth=rows,
        left=(*left, *truth.left),
    )


def _begins(column: Any, start: str) -> Mask:
    return np.asarray(pc.fill_null(pc.starts_with(texts(column), start), False).to_numpy(zero_copy_only=False), bool)


def _matching(scored: Scored, truth: Truth) -> tuple[Ints32, Ints32, int]:
    """Return a number for what each row is matched by, in both files, and how many numbers there are."""
    ours, theirs = (pc.fill_null(ids, "") for ids in (scored.ids, truth.ids))
    if truth.task is not None:
        ours, theirs = (
            pc.binary_join_element_wise(ids, pc.fill_null(task.texts(), ""), "\x1f")
            for ids, task in ((ours, scored.task), (theirs, truth.task))
        )
    numbers, found, distinct = numbered(theirs, ours)
    return found, numbers, distinct


def _levels_by_task(scored: Scored) -> Ints32:
    """Return how many levels each task has: as many as it has probabilities."""
    most = np.zeros(len(scored.task.values), np.int32)
    given = scored.task.code >= 0
    np.maximum.at(most, scored.task.code[given], scored.width[given])
    return np.where(most > 0, np.minimum(most, UNKNOWN_LEVELS), UNKNOWN_LEVELS).astype(np.int32)


def _at(places: npt.NDArray[np.int64], rows: int) -> Mask:
    mask = np.zeros(rows, bool)
    mask[places] = True
    return mask


def _reasons(ids: Any, *reasons: tuple[str, Mask]) -> tuple[Left, ...]:
    """Return those reasons that hold for some row."""
    found = []
    for reason, mask in reasons:
        rows = np.flatnonzero(mask)
        if len(rows):
            found.append(Left(reason, len(rows), tuple(str(i) for i in ids.take(rows[:EXAMPLES]).to_pylist())))
    return tuple(found)
