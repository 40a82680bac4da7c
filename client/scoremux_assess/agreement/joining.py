"""Scored rows beside the levels that humans gave them, and every row that cannot be compared, counted by reason."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from scoremux_assess.agreement.ratings import Floats, Mask, Ratings
from scoremux_assess.agreement.weights import ROUTED_ONLY, Sample, sample_of
from scoremux_client.contract import HUMAN
from scoremux_client.errors import InputError
from scoremux_files.rows.columns import Codes, Ints32, encode, levels, means, numbered, numbers, present_columns, texts
from scoremux_files.rows.writers import without_apostrophe

EXAMPLES = 5
"""Ids that are named for each reason."""

UNKNOWN_LEVELS = 256
"""How many levels a task has if the output has no probabilities: more than any scale."""

Columns = TypeVar("Columns", bound="_Columns")


@dataclass(frozen=True)
class LeftOut:
    """Rows that are not compared, or only in part.

    Attributes:
        reason: Why.
        count: How many they are.
        examples: Ids of some of them.
    """

    reason: str
    count: int
    examples: tuple[str, ...]


class _Columns:
    """Columns of the same rows: dataclasses of Arrow arrays, NumPy arrays and `Codes`."""

    def take(self: Columns, rows: npt.NDArray[np.int64]) -> Columns:
        """Return some of the rows."""
        return replace(self, **{name: _take(column, rows) for name, column in vars(self).items()})  # type: ignore[type-var]


@dataclass(frozen=True)
class ScoredColumns(_Columns):
    """What `scoremux score` wrote, B rows.

    Attributes:
        ids: Text.
        status, version: See `Codes`.
        task: Without a pinned digest.
        level: NaN without a score.
        width: How many probabilities a row has.
        expected: The mean level under them.
        confidence: P(level = human's level), or `stated` where the output has none.
        calibrated: Whether the output has confidences.
        stated: The greatest probability, NaN without any.
        to_people: Whether the row's route is to people; None where the output has no routes.
        low, high: The range of levels that holds a human's, NaN where there is none.
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
class KnownColumns(_Columns):
    """What humans gave, B rows.

    Attributes:
        ids: Text.
        task: None where the file has no such column.
        level, second: NaN where there is none.
        groups: Column → values.
        student: None if no column names one.
        weight: 1 / the probability with which the row was chosen to be read.
        routed: Whether it was read since it was sent to people.
        behind: Whether it stands for rows that the machine kept.
        unusable: Whether a row has a level that is not a number.
        left_out: Rows without a usable level.
    """

    ids: Any
    task: Codes | None
    level: Floats
    second: Floats
    groups: dict[str, Codes]
    student: Codes | None
    weight: Floats
    routed: Mask
    behind: Mask
    unusable: Mask
    left_out: tuple[LeftOut, ...]


@dataclass(frozen=True)
class JoinedColumns:
    """Rows that have both a score and a human's level, B of them.

    Attributes:
        scored: What the machine gave them.
        known: What humans gave them.
        ratings: The levels of both.
        output: The place of each row among those of the output, from 0.
        levels: How many levels each task has.
        dropped: How many scored rows of each task a human gave what is off the scale or not a number.
        population: What rows the figures are about, where they are not about all; else empty.
        left_out: Rows that are not compared, and why.
    """

    scored: ScoredColumns
    known: KnownColumns
    ratings: Ratings
    output: npt.NDArray[np.int64]
    levels: Ints32
    dropped: npt.NDArray[np.int64]
    population: str
    left_out: tuple[LeftOut, ...]

    def __len__(self) -> int:
        return len(self.ratings)

    def students(self) -> npt.NDArray[np.int64] | None:
        """Return a number for who wrote each row, one of its own where that is not known; None if no column says it."""
        student = self.known.student
        if student is None:
            return None
        return np.where(student.code < 0, len(student.values) + np.arange(len(self)), student.code)


@dataclass(frozen=True)
class TruthColumns:
    """Names of the columns of a file of known levels.

    Attributes:
        id: Of the rows' ids.
        task: Of task ids; rows match by id alone if there is no column `task`.
        level: Of a human's level.
        second: Of a second human's level, where there are some.
        groups: Of groups of students.
        student: Of the student who wrote the response.
    """

    id: str = "id"
    task: str = "task"
    level: str = "level"
    second: str | None = None
    groups: Sequence[str] = ()
    student: str | None = None

    @property
    def needed(self) -> list[str]:
        """Columns that must be there."""
        names = (
            self.id,
            self.level,
            self.task if self.task != "task" else None,
            self.second,
            *self.groups,
            self.student,
        )
        return [name for name in names if name]


TRUTH_COLUMNS = TruthColumns()


def read_joined(output: Path, truth: Path, columns: TruthColumns = TRUTH_COLUMNS) -> JoinedColumns:
    """Read what `scoremux score` wrote and a file of known levels, and match their rows.

    Args:
        output: A file or folder that `scoremux score` wrote.
        truth: A .jsonl, .csv or .parquet file.
        columns: Names of the truth's columns.

    Raises:
        InputError: a file cannot be read, a column is missing, or no row has both.
    """
    joined = join(read_scored(output), read_truth(truth, columns))
    if not len(joined):
        reasons = "; ".join(f"{left_out.count:,} {left_out.reason}" for left_out in joined.left_out)
        raise InputError(f"no row of {output} has a score and a level in {truth} ({reasons})")
    return joined


def read_truth(path: Path, names: TruthColumns = TRUTH_COLUMNS) -> KnownColumns:
    """Read a .jsonl, .csv or .parquet file of known levels. Raises InputError if it cannot, or a column is missing."""
    second, groups, student = names.second, names.groups, names.student
    columns = present_columns(path, [*names.needed, names.task, "chosen_by", "probability"], names.needed)
    ids, (level, bad) = texts(columns[names.id]), numbers(columns[names.level])
    none = np.full(len(ids), np.nan), np.zeros(len(ids), bool)
    second_level, second_bad = numbers(columns[second]) if second else none
    codes = {name: encode(columns[name]) for name in groups}
    students = encode(columns[student]) if student else None
    sample = _sample(columns, len(ids))
    apart = np.isnan(sample.weight) & ~np.isnan(level)
    level = np.where(apart, np.nan, level)
    reasons = [
        ("are validity papers or have no probability, and stand for no other rows", apart),
        ("have no level in the truth", np.isnan(level) & ~bad & ~apart),
        ("have a level in the truth that is not a number", bad),
        ("have a second level that is not a number, and count without it", second_bad),
        *([] if students is None else [(f"have no {student}, and each counts by itself", students.code < 0)]),
        *((f"have no {name}, and count for none of its groups", c.code < 0) for name, c in codes.items()),
    ]
    task = encode(columns[names.task]) if names.task in columns else None
    return KnownColumns(
        ids,
        task,
        level,
        second_level,
        codes,
        students,
        sample.weight,
        sample.routed,
        sample.behind,
        bad,
        _left_out(ids, reasons),
    )


def read_scored(path: Path) -> ScoredColumns:
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
    confidence, route = columns.get("confidence"), columns.get("route")
    calibrated = confidence is not None and confidence.null_count < len(confidence)
    return ScoredColumns(
        ids=ids,
        status=status,
        task=encode(columns["task"]).renamed(lambda task: task.partition("@")[0]),
        version=encode(columns["version"]) if "version" in columns else Codes((), np.full(len(ids), -1, np.int32)),
        level=np.where(status.code == status.place("OK"), level, np.nan),
        width=width,
        expected=np.where(width > 0, expected, level),
        confidence=pc.cast(confidence, pa.float64()).to_numpy(zero_copy_only=False) if calibrated else greatest,
        calibrated=calibrated,
        stated=greatest,
        to_people=None if route is None else _begins(route, HUMAN),
        low=low,
        high=high,
    )


def join(
    scored: ScoredColumns, truth: KnownColumns, names: tuple[str, str] = ("the output", "the truth")
) -> JoinedColumns:
    """Match rows by id, or by id and task if the truth has tasks. A row of a repeated id is not compared.

    Args:
        scored: What the machine gave.
        truth: What humans gave.
        names: What the two are called in `left`.
    """
    output, known = names
    ours, theirs, distinct = _matching(scored, truth)
    most, listed, usable = _levels_by_task(scored), ours >= 0, ~np.isnan(truth.level)
    with np.errstate(invalid="ignore"):
        odd = (scored.level < 0) | (scored.level >= np.append(most, 0)[scored.task.code])
    has_score = ~np.isnan(scored.level) & ~odd
    # The place after the last stands for what the truth does not have.
    place = np.full(distinct + 1, -1)
    place[theirs[usable]] = np.flatnonzero(usable)
    times = np.bincount(ours[listed], minlength=distinct + 1)
    repeated = (times > 1)[ours] & listed
    unclear = (np.bincount(theirs[usable], minlength=distinct + 1) > 1)[ours]
    both = np.flatnonzero(has_score & (place[ours] >= 0) & ~repeated & ~unclear)
    first, second = truth.level[place[ours[both]]], truth.second[place[ours[both]]]
    highest = most[scored.task.code[both]]
    off, off_second = (first < 0) | (first > highest - 1), (second < 0) | (second > highest - 1)
    statuses = ((name, scored.status.code == code) for code, name in enumerate(scored.status.values) if name != "OK")
    reasons = [
        *((f"have no score: {name}", rows) for name, rows in statuses),
        (f"have a level in {output} that is off the task's scale, or no task", odd),
        (f"are scored and not in {known}", has_score & ~listed),
        (f"are in {output} with an id that is there several times", has_score & repeated),
        (f"are scored and in {known} several times", has_score & unclear),
        (f"have a level in {known} that is off the task's scale", _at(both[off], len(ours))),
        ("have a second level off the task's scale, and count without it", _at(both[off_second], len(ours))),
    ]
    absent = [(f"are in {known} and not in {output}", times[theirs] == 0)]
    unusable = np.flatnonzero(has_score & listed & np.isin(ours, theirs[truth.unusable]))
    kept = both[~off]
    scores, labels = scored.take(kept), truth.take(place[ours[kept]])
    second_level = np.where(off_second[~off], np.nan, labels.second)
    return JoinedColumns(
        scored=scores,
        known=labels,
        ratings=Ratings.of(labels.level, scores.level, second_level, scores.expected, labels.weight),
        output=kept,
        levels=most,
        dropped=np.bincount(scored.task.code[np.append(both[off], unusable)], minlength=len(most)),
        population=_population(scored, labels),
        left_out=(*_left_out(scored.ids, reasons), *_left_out(truth.ids, absent), *truth.left_out),
    )


def _sample(columns: Mapping[str, Any], rows: int) -> Sample:
    chosen_by = texts(columns["chosen_by"]).to_pylist() if "chosen_by" in columns else [None] * rows
    probability = numbers(columns["probability"])[0] if "probability" in columns else np.full(rows, np.nan)
    return sample_of(chosen_by, probability)


def _population(scored: ScoredColumns, known: KnownColumns) -> str:
    """Return what rows figures are about where the machine's share is not among them."""
    kept = scored.to_people is None or bool((~scored.to_people).any())
    return ROUTED_ONLY if kept and known.routed.any() and not known.behind.any() else ""


def _take(column: Any, rows: npt.NDArray[np.int64]) -> Any:
    if isinstance(column, dict):
        return {name: codes.take(rows) for name, codes in column.items()}
    if isinstance(column, np.ndarray):
        return column[rows]
    if isinstance(column, Codes):
        return column.take(rows)
    return column.take(pa.array(rows)) if isinstance(column, (pa.Array, pa.ChunkedArray)) else column


def _begins(column: Any, start: str) -> Mask:
    return np.asarray(pc.fill_null(pc.starts_with(texts(column), start), False).to_numpy(zero_copy_only=False), bool)


def _matching(scored: ScoredColumns, truth: KnownColumns) -> tuple[Ints32, Ints32, int]:
    """Return a number for what each row is matched by, in both files, and how many numbers there are."""
    ours, theirs = (pc.fill_null(ids, "") for ids in (scored.ids, truth.ids))
    if truth.task is not None:
        ours, theirs = (
            pc.binary_join_element_wise(ids, pc.fill_null(task.texts(), ""), "\x1f")
            for ids, task in ((ours, scored.task), (theirs, truth.task))
        )
    known, places, distinct = numbered(theirs, ours)
    return places, known, distinct


def _levels_by_task(scored: ScoredColumns) -> Ints32:
    """Return how many levels each task has: as many as it has probabilities."""
    most = np.zeros(len(scored.task.values), np.int32)
    named = scored.task.code >= 0
    np.maximum.at(most, scored.task.code[named], scored.width[named])
    return np.where(most > 0, np.minimum(most, UNKNOWN_LEVELS), UNKNOWN_LEVELS).astype(np.int32)


def _at(places: npt.NDArray[np.int64], rows: int) -> Mask:
    mask = np.zeros(rows, bool)
    mask[places] = True
    return mask


def _left_out(ids: Any, reasons: Iterable[tuple[str, Mask]]) -> tuple[LeftOut, ...]:
    """Return those reasons that hold for some row."""
    left_out = []
    for reason, mask in reasons:
        rows = np.flatnonzero(mask)
        if len(rows):
            left_out.append(LeftOut(reason, len(rows), tuple(map(str, ids.take(rows[:EXAMPLES]).to_pylist()))))
    return tuple(left_out)
