"""The desk's export of final scores → for each task and calibration, the rows that its promise is about."""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from scoremux_assess.labels.ratings import Ints
from scoremux_client.contract import HUMAN, MACHINE, Reason, Status
from scoremux_client.errors import InputError
from scoremux_decide.decision import Decision
from scoremux_files.rows.readers import read_rows

_NEEDED = ("id", "task", "status", "machine_level", "route", "read_behind", "version", "decided_by", "added_at")
_NUMBERS: dict[str, type[int | float]] = {
    "machine_level": int, "level": int, "decision": int, "confidence": float, "read_behind": float,
}  # fmt: skip
"""Columns whose cells are numbers, or empty."""
_ALSO = ("level", "confidence", "condition", "student", "administration", "decision")
_HUMAN = ("rater", "agreement", "adjudication")
CODED, UNSURE, UNUSUAL = "condition codes", "low confidence", "unusual"
LEAST_PAPERS = 10
_REMEDY = "write the file with `scoremux review export --out`, and the newest version"


@dataclass
class Day:
    """The rows of one day and one calibration.

    Attributes:
        rows: Responses by who decides them: machine, people, or empty where they cannot be graded.
        pending: Responses that people have not read yet.
        final: Responses that have a final score or code.
        on_hold: Responses that a version on hold scored.
        kept: Responses that the machine keeps, or would keep without a hold.
        doubts: 1 − confidence of each of these that has a confidence, in their order.
        errors: For each of these that people read as well, in their order, how far the machine was above the
            first person's level: promises are about one person, and a level that two settled is nearer to the machine.
        coded: Those that people gave a condition code.
        having, asked: Of each share that is watched without labels, how many rows have it, and of how many.
        late: Ids of those picked for people that were not read in time.
    """

    rows: Counter[str] = field(default_factory=Counter)
    pending: int = 0
    final: int = 0
    on_hold: int = 0
    kept: int = 0
    doubts: list[float] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)
    coded: int = 0
    having: Counter[str] = field(default_factory=Counter)
    asked: Counter[str] = field(default_factory=Counter)
    late: list[str] = field(default_factory=list)


@dataclass
class WatchedTask:
    """A task under one calibration.

    Attributes:
        version: The digest of the version that was calibrated.
        decision: None where the version is unknown or has no calibration.
        days: By day, as YYYY-MM-DD, in order.
        administrations: How many rows came from which scored file or folder.
    """

    task: str
    version: str
    decision: Decision | None
    days: dict[str, Day] = field(default_factory=dict)
    administrations: Counter[str] = field(default_factory=Counter)


def read_watched(
    path: Path,
    decision_of: Callable[[str], Decision | None],
    late_before: str,
) -> list[WatchedTask]:
    """Read the output of `scoremux review export --out`; its rows are in the order in which they came to the desk.

    Of equal texts, which people decide as one, one counts a day. Of a student's responses to a task in an
    administration, the first counts.

    Args:
        decision_of: Returns the decision of a version, given its digest.
        late_before: Picked rows that came before this day and were not read are late.

    Raises:
        InputError: The file is not such an export.
    """
    watched = {}
    counted: set[tuple[str, ...]] = set()
    for number, cells in enumerate(read_rows(path), start=1):
        row = {name: None if cell == "" else cell for name, cell in cells.items()}  # CSV knows no null
        if number == 1 and (missing := [name for name in _NEEDED if name not in row]):
            raise InputError(f"{path}: no column {missing[0]}; {_REMEDY}")
        if nested := [name for name in (*_NEEDED, *_ALSO) if isinstance(row.get(name), (list, dict))]:
            raise InputError(f"{path}: row {number} has no text in the column {nested[0]}; {_REMEDY}")
        for name, kind in _NUMBERS.items():
            row[name] = _number(
                path,
                number,
                name,
                kind,
                row.get(name),
            )
        version = str(row["version"] or "")
        day_name = str(row["added_at"] or "")[:10]
        try:
            date.fromisoformat(day_name)
        except ValueError:
            raise InputError(f"{path}: row {number} has no date in the column added_at; {_REMEDY}") from None
        decision = decision_of(version) if version else None
        calibrated = (decision.held if decision else None) or version
        key = str(row["task"]), calibrated
        if key not in watched:
            watched[key] = WatchedTask(*key, decision_of(calibrated) if calibrated else None)
        day = watched[key].days.setdefault(day_name, Day())
        day.on_hold += calibrated != version
        watched[key].administrations[str(row.get("administration") or "")] += 1
        _count(row, day, day_name, late_before, counted)
        for name, has_it in _shares(row, watched[key].decision):
            day.having[name] += has_it
            day.asked[name] += 1
    for task in watched.values():
        task.days = dict(sorted(task.days.items()))
    return sorted(watched.values(), key=lambda task: (task.task, min(task.days)))


def _number(
    path: Path,
    row: int,
    name: str,
    kind: type[int | float],
    cell: Any,
) -> int | float | None:
    """Return a cell as a number. Raises InputError naming file, row and column."""
    if cell is None:
        return None
    try:
        value = float(cell)
        if math.isfinite(value) and kind(value) == value:
            return kind(value)
    except (TypeError, ValueError, OverflowError):
        pass
    what = "whole number" if kind is int else "number"
    raise InputError(f"{path}: row {row} has no {what} in the column {name}; {_REMEDY}")


def _count(
    row: dict[str, Any],
    day: Day,
    day_name: str,
    late_before: str,
    counted: set[tuple[str, ...]],
) -> None:
    """Count a row in its day. counted: the students and texts whose reading counts already."""
    route = str(row["route"] or "")
    level = row["machine_level"]
    day.rows["people" if route.startswith(HUMAN) else route] += 1
    day.pending += row["status"] == "PENDING"
    day.final += row["status"] in (Status.OK.value, Status.CONDITION.value)
    on_hold = route == Reason.HELD.route
    if not (on_hold or route == MACHINE) or level is None or int(level) < 0:
        return
    day.kept += 1
    if (confidence := row.get("confidence")) is not None:
        day.doubts.append(1 - float(confidence))
    if not on_hold and row["read_behind"] is None:
        return
    if row["decided_by"] in _HUMAN:
        if _is_first(row, day_name, counted):
            human = row["first_level"] if "first_level" in row else row.get("level")
            if human is None or int(human) < 0:
                day.coded += 1  # a code instead of a level: promises are about levels, as calibrations are
            else:
                day.errors.append(int(level) - int(human))
    elif day_name < late_before and not on_hold:
        day.late.append(str(row["id"]))


def _shares(row: dict[str, Any], decision: Decision | None) -> Iterator[tuple[str, bool]]:
    """Yield the shares that a row is part of, and whether it has each. Levels of rows with a code count for none."""
    expected, threshold = (decision.expected, decision.threshold) if decision else (None, None)
    coded = bool(row.get("condition"))
    level = row["machine_level"]
    if expected is None or threshold is None:
        return
    yield CODED, coded
    if coded or level is None or int(level) < 0:
        return
    for place in range(len(expected.levels or ())):
        yield f"level {place}", int(level) == place
    if (confidence := row.get("confidence")) is not None and threshold.least is not None:
        yield UNSURE, float(confidence) < threshold.least
    if decision and decision.unusual:
        yield UNUSUAL, row["route"] == Reason.UNUSUAL.route


def usual_shares(decision: Decision) -> dict[str, float]:
    """Return the shares of `_shares` among the rows that a decision was fitted to, where these tell."""
    expected = decision.expected
    threshold = decision.threshold
    shares = {f"level {place}": share for place, share in enumerate((expected and expected.levels) or ())}
    shares |= {UNSURE: threshold.share} if threshold else {}
    return shares | ({UNUSUAL: 1 - decision.unusual.quantile} if decision.unusual else {})


def _is_first(
    row: dict[str, Any],
    day_name: str,
    counted: set[tuple[str, ...]],
) -> bool:
    """Return whether this reading is the first of its student and of its text; add both to `counted`."""
    task = str(row["task"])
    student = row.get("student")
    decision = row.get("decision")
    marks = (
        {
            (
                "student",
                task,
                str(row.get("administration") or ""),
                str(student),
            )
        }
        if student
        else set()
    )
    marks |= (
        set()
        if decision is None
        else {
            (
                "text",
                task,
                day_name,
                str(int(decision)),
            )
        }
    )
    is_first = counted.isdisjoint(marks)
    counted |= marks
    return is_first


@dataclass
class Papers:
    """Validity papers of a task: wrong levels and readings of raters, before the last four weeks and in them."""

    before: Ints = field(default_factory=lambda: np.zeros(2, np.int64))
    recent: Ints = field(default_factory=lambda: np.zeros(2, np.int64))

    @property
    def moved(self) -> bool | None:
        """Whether raters are wrong more often than before, by two standard errors; None where readings are too few."""
        wrong, read = np.array([self.before, self.recent]).T
        if read.min() < LEAST_PAPERS:
            return None
        share = wrong.sum() / read.sum()
        return bool(wrong[1] / read[1] - wrong[0] / read[0] > 2 * np.sqrt(share * (1 - share) * (1 / read).sum()))


def read_papers(path: Path, recent_from: str) -> dict[str, Papers]:
    """Read the output of `scoremux review export --papers`, by task. Raises InputError."""
    papers: dict[str, Papers] = {}
    for number, row in enumerate(read_rows(path), start=1):
        try:
            wrong = int(row["level"]) != int(row["known_level"])
            day = str(row["decided_at"])
            of_task = papers.setdefault(str(row["task"]), Papers())
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError):
            raise InputError(f"{path}: row {number} is no reading; write it by `review export --papers`") from None
        readings = of_task.recent if day >= recent_from else of_task.before
        readings += (wrong, 1)
    return papers


def promises_of(decision: Decision | None) -> Iterator[tuple[str, float, float]]:
    """Yield the promises about the rows that the machine keeps: their name, greatest share and least error.

    `within_of_humans` compares with a second human, whom read-behind rows do not have.
    """
    threshold = decision.threshold if decision else None
    if threshold is None or threshold.least is None:
        return
    if threshold.exact is not None:
        yield "exact", 1 - threshold.exact, 1
    if threshold.critical is not None:
        yield "critical", threshold.critical, 2
