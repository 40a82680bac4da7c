"""The desk's export of final scores → for each task and calibration, the rows that its promise is about."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field

from scoremux_client.contract import HUMAN, MACHINE, Reason, Status
from scoremux_client.errors import InputError
from scoremux_decide.decision import Decision
from scoremux_evidence.rows.table import Ints
from scoremux_evidence.watch.observations import Named
from scoremux_files.rows.readers import read_rows
from scoremux_files.settings import validate

_HUMAN = ("rater", "agreement", "adjudication")
CODED, UNSURE, UNUSUAL = "condition codes", "low confidence", "unusual"
LEAST_PAPERS = 10
_REMEDY = "write the file with `scoremux review export --out`, and the newest version"


def _text(cell: object) -> object:
    return "" if cell is None else cell


_Text = Annotated[str, BeforeValidator(_text)]
_Share = Annotated[float, Field(ge=0, le=1)]


class _FinalRow(BaseModel, allow_inf_nan=False, coerce_numbers_to_str=True):
    """A row of the desk's export; added_at: its day, as YYYY-MM-DD. Older exports lack the columns with a default."""

    id: _Text
    task: _Text
    status: _Text
    machine_level: int | None
    route: _Text
    read_behind: _Share | None
    version: Annotated[str, Field(pattern=r"^[\w.-]{0,64}$"), BeforeValidator(_text)]
    decided_by: _Text
    added_at: Annotated[_Text, AfterValidator(lambda time: date.fromisoformat(time[:10]).isoformat())]
    level: int | None = None
    first_level: int | None = None
    confidence: _Share | None = None
    condition: _Text = ""
    student: _Text = ""
    administration: _Text = ""
    decision: int | None = None
    cluster: _Text = ""

    @property
    def machine_gave(self) -> int | None:
        """The machine's level, None where it gave none."""
        return None if (self.machine_level or 0) < 0 else self.machine_level


@dataclass
class Day:
    """The rows of one day and one calibration.

    Attributes:
        rows: Responses by who decides them: machine, people, or empty where they cannot be graded.
        pending: Responses that people have not read yet.
        final: Responses that have a final score or code.
        on_hold: Responses that a version on hold scored.
        kept: Responses that the machine keeps, or would keep without a hold.
        doubts: 1 − confidence of each of these that has a confidence, in their order, with their clusters.
        errors: For each of these that people read as well, in their order, how far the machine was above the
            first person's level, with its cluster: promises are about one person, and a level that two settled is
            nearer to the machine. A row whose second reading or adjudication still waits counts with its first.
        coded: Those that people gave a condition code.
        shares: Of each share that is watched without labels, whether each row has it, with its cluster.
        late: Ids of those picked for people that were not read in time.
    """

    rows: Counter[str] = field(default_factory=Counter)
    pending: int = 0
    final: int = 0
    on_hold: int = 0
    kept: int = 0
    doubts: list[Named] = field(default_factory=list)
    errors: list[Named] = field(default_factory=list)
    coded: int = 0
    shares: dict[str, list[Named]] = field(default_factory=dict)
    late: list[str] = field(default_factory=list)


@dataclass
class WatchedTask:
    """A task under one calibration.

    Attributes:
        version: The digest of the version that was calibrated.
        decision: None where the version is unknown or has no calibration.
        days: By day, as YYYY-MM-DD, in order.
        administrations: How many rows came from which scored file or folder.
        has_clusters: Whether rows name a cluster, such as their school.
    """

    task: str
    version: str
    decision: Decision | None
    days: dict[str, Day] = field(default_factory=dict)
    administrations: Counter[str] = field(default_factory=Counter)
    has_clusters: bool = False


def read_watched(
    path: Path, decision_of: Callable[[str], Decision | None], late_before: str, cluster: str = "cluster"
) -> list[WatchedTask]:
    """Read the output of `scoremux review export --out`; its rows are in the order in which they came to the desk.

    Of equal texts, which people decide as one, one counts a day. Of a student's responses to a task in an
    administration, the first counts.

    Args:
        decision_of: Returns the decision of a version, given its digest.
        late_before: Picked rows that came before this day and were not read are late.
        cluster: The column that says which rows belong together.

    Raises:
        InputError: The file is not such an export.
    """
    watched = {}
    counted: set[tuple[str, ...]] = set()
    for number, cells in enumerate(read_rows(path), start=1):
        values = {name: None if cell == "" else cell for name, cell in cells.items()}  # CSV knows no null
        values["cluster"] = values.get(cluster)
        try:
            row = validate(_FinalRow.model_validate, values)
        except ValueError as error:
            raise InputError(f"{path}: row {number}: {error}; {_REMEDY}") from error
        trait = row.task.rpartition(".")[2]
        decision = decision_of(row.version) if row.version else None
        calibrated = (decision.held if decision else None) or row.version
        key = row.task, calibrated
        if key not in watched:
            decision = decision_of(calibrated) if calibrated else None
            watched[key] = WatchedTask(*key, decision.of(trait) if decision else None)
        day = watched[key].days.setdefault(row.added_at, Day())
        day.on_hold += calibrated != row.version
        watched[key].administrations[row.administration] += 1
        watched[key].has_clusters |= bool(row.cluster)
        _count(row, day, late_before, counted)
        for name, has_it in _shares(row, watched[key].decision):
            day.shares.setdefault(name, []).append((row.cluster, float(has_it)))
    for task in watched.values():
        task.days = dict(sorted(task.days.items()))
    return sorted(watched.values(), key=lambda task: (task.task, min(task.days)))


def _count(row: _FinalRow, day: Day, late_before: str, counted: set[tuple[str, ...]]) -> None:
    """Count a row in its day. counted: the students and texts whose reading counts already."""
    level = row.machine_gave
    day.rows["people" if row.route.startswith(HUMAN) else row.route] += 1
    day.pending += row.status == "PENDING"
    day.final += row.status in (Status.OK.value, Status.CONDITION.value)
    on_hold = row.route == Reason.HELD.route
    if not (on_hold or row.route == MACHINE) or level is None:
        return
    day.kept += 1
    if row.confidence is not None:
        day.doubts.append((row.cluster, 1 - row.confidence))
    if not on_hold and row.read_behind is None:
        return
    if row.decided_by in _HUMAN or row.first_level is not None:
        if _is_first(row, counted):
            human = row.first_level if "first_level" in row.model_fields_set else row.level
            if human is None or human < 0:
                day.coded += 1  # a code instead of a level: promises are about levels, as calibrations are
            else:
                day.errors.append((row.cluster, float(level - human)))
    elif row.added_at < late_before and not on_hold:
        day.late.append(row.id)


def _shares(row: _FinalRow, decision: Decision | None) -> Iterator[tuple[str, bool]]:
    """Yield the shares that a row is part of, and whether it has each. Levels of rows with a code count for none."""
    expected, threshold = (decision.expected, decision.threshold) if decision else (None, None)
    if expected is None or threshold is None:
        return
    yield CODED, bool(row.condition)
    if row.condition or row.machine_gave is None:
        return
    for place in range(len(expected.levels or ())):
        yield f"level {place}", row.machine_gave == place
    if row.confidence is not None and threshold.least is not None:
        yield UNSURE, row.confidence < threshold.least or row.route == Reason.LOW_CONFIDENCE.route
    if decision and decision.unusual:
        yield UNUSUAL, row.route == Reason.UNUSUAL.route


def usual_shares(decision: Decision) -> dict[str, float]:
    """Return the shares of `_shares` among the rows that a decision was fitted to, where these tell."""
    expected = decision.expected
    threshold = decision.threshold
    shares = {f"level {place}": share for place, share in enumerate((expected and expected.levels) or ())}
    shares |= {UNSURE: threshold.share} if threshold else {}
    return shares | ({UNUSUAL: 1 - decision.unusual.quantile} if decision.unusual else {})


def _is_first(row: _FinalRow, counted: set[tuple[str, ...]]) -> bool:
    """Return whether this reading is the first of its student and of its text; add both to `counted`."""
    marks = set[tuple[str, ...]]()
    if row.student:
        marks.add(("student", row.task, row.administration, row.student))
    if row.decision is not None:
        marks.add(("text", row.task, row.added_at, str(row.decision)))
    is_first = counted.isdisjoint(marks)
    counted |= marks
    return is_first


@dataclass
class Papers:
    """Validity papers of a task: wrong levels and readings of raters, before the last four weeks and in them."""

    before: Ints = field(default_factory=lambda: np.zeros(2, np.int64))
    recent: Ints = field(default_factory=lambda: np.zeros(2, np.int64))

    def increase(self) -> tuple[float, float] | None:
        """Return a 95 % interval of how much more often raters are wrong than before; None where readings are too few.

        It is the interval of Agresti and Caffo (2000).
        """
        wrong, read = np.array([self.before, self.recent], float).T
        if read.min() < LEAST_PAPERS:
            return None
        share = (wrong + 1) / (read + 2)
        half = 1.96 * float(np.sqrt((share * (1 - share) / (read + 2)).sum()))
        middle = float(share[1] - share[0])
        return middle - half, middle + half


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
