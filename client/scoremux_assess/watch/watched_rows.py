"""The desk's export of final scores → for each task and calibration, the rows that its promise is about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from scoremux_client.contract import HUMAN, MACHINE, Reason
from scoremux_client.errors import InputError
from scoremux_decide.decision import Decision
from scoremux_files.rows.readers import read_rows

_NEEDED = ("id", "task", "status", "machine_level", "route", "read_behind", "version", "decided_by", "added_at")
_HUMAN = ("rater", "agreement", "adjudication")


@dataclass
class Day:
    """What one day brought for one calibration.

    Attributes:
        rows: Responses, by what became of them: machine, people, or empty where nobody can grade them.
        pending: Responses that people have not read yet.
        kept: Responses that the machine keeps.
        doubt: Sum of 1 − confidence over these.
        picked: How many of these were picked for people to read as well.
        errors: For each of the picked ones that were read, in their order, by how many levels the machine was off.
        late: Ids of picked responses that were not read in time.
        is_held: Whether the calibration was on hold.
    """

    rows: Counter[str] = field(default_factory=Counter)
    pending: int = 0
    kept: int = 0
    doubt: float = 0.0
    picked: int = 0
    errors: list[float] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    is_held: bool = False


@dataclass
class WatchedTask:
    """A task under one calibration.

    Attributes:
        task: Its id.
        version: The digest of the version that was calibrated.
        decision: Its decision; None where the version is unknown or has no calibration.
        days: By day, as YYYY-MM-DD, in order.
        administrations: How many rows came from which scored file or folder.
    """

    task: str
    version: str
    decision: Decision | None
    days: dict[str, Day] = field(default_factory=dict)
    administrations: Counter[str] = field(default_factory=Counter)

    def total(self, value: Callable[[Day], float]) -> float:
        """Return the sum of a value over all days."""
        return sum(value(day) for day in self.days.values())


def read_watched(path: Path, decision_of: Callable[[str], Decision | None], late_before: str) -> list[WatchedTask]:
    """Read what `scoremux review export --out` wrote; its rows are in the order in which they came to the desk.

    Of equal texts, which people decide as one, one counts a day; of a student's responses to a task in an
    administration, the first.

    Args:
        path: The file.
        decision_of: Returns a version's decision.
        late_before: Picked rows that came before this day and were not read are late.

    Raises:
        InputError: The file is not such an export.
    """
    watched: dict[tuple[str, str], WatchedTask] = {}
    students: set[tuple[str, str, str]] = set()
    texts: set[tuple[str, str, int]] = set()
    for number, row in enumerate(read_rows(path), start=1):
        if number == 1 and (missing := [name for name in _NEEDED if name not in row]):
            raise InputError(
                f"{path}: there is no column {missing[0]}; write the file with `scoremux review export --out`, "
                "and the newest version"
            )
        version, day_name = str(row["version"] or ""), str(row["added_at"] or "")[:10]
        decision = decision_of(version) if version else None
        calibrated = (decision.held if decision else None) or version
        key = str(row["task"]), calibrated
        if key not in watched:
            watched[key] = WatchedTask(*key, decision_of(calibrated) if calibrated else None)
        day = watched[key].days.setdefault(day_name, Day())
        watched[key].administrations[str(row.get("administration") or "")] += 1
        _count(day, row, late_before > day_name, _first(row, day_name, students, texts))
    for task in watched.values():
        task.days = dict(sorted(task.days.items()))
    return sorted(watched.values(), key=lambda task: (task.task, min(task.days)))


def _first(row: dict[str, Any], day: str, students: set[Any], texts: set[Any]) -> Callable[[], bool]:
    """Return what says whether a read row is the first one of its student and of its text."""

    def is_first() -> bool:
        task, student, decision = str(row["task"]), row.get("student"), row.get("decision")
        marks: list[tuple[set[Any], tuple[Any, ...]]] = (
            [] if student is None else [(students, (task, str(row.get("administration") or ""), str(student)))]
        )
        marks += [] if decision is None else [(texts, (task, day, int(decision)))]
        known = any(mark in seen for seen, mark in marks)
        for seen, mark in marks:
            seen.add(mark)
        return not known

    return is_first


def _count(day: Day, row: dict[str, Any], is_late: bool, is_first: Callable[[], bool]) -> None:
    route, level = str(row["route"] or ""), row["machine_level"]
    day.rows["people" if route.startswith(HUMAN) else route] += 1
    day.pending += row["status"] == "PENDING"
    held = route == Reason.HELD.route
    if not (held or route == MACHINE) or level is None or int(level) < 0:
        return
    day.kept += 1
    day.is_held |= held
    confidence = row.get("confidence")
    day.doubt += 0.0 if confidence is None else 1 - float(confidence)
    if not held and row["read_behind"] is None:
        return
    day.picked += 1
    if row["decided_by"] in _HUMAN:
        if is_first():
            human = row.get("level")
            day.errors.append(np.inf if human is None or int(human) < 0 else abs(int(human) - int(level)))
    elif is_late:
        day.late.append(str(row["id"]))


def promises_of(decision: Decision | None) -> Iterator[tuple[str, float, float]]:
    """Yield what a decision promises of the rows that the machine keeps: its name, the greatest share, the least error.

    `within_of_humans` compares with a second human, whom read-behind rows do not have.
    """
    threshold = decision.threshold if decision else None
    if threshold is None or threshold.least is None:
        return
    if threshold.exact is not None:
        yield "exact", 1 - threshold.exact, 1
    if threshold.critical is not None:
        yield "critical", threshold.critical, 2
