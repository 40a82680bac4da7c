"""The desk's export of final scores → for each task and calibration, the rows that its promise is about.

Columns: day (on which a row came to the desk, YYYY-MM-DD), id, source, task, version (that was calibrated), status,
student, administration, cluster, condition and route (`Codes`), line, machine (the level that the machine gave, NaN
without one), confidence, read_behind (the share of rows that people read behind the machine, NaN where a row was not
drawn), human (the level of the first person, NaN without one), is_read (whether a person read the row), decision (a
number for the rows that people decide as one), on_hold (whether a version on hold scored it), machine_total and
first_total (of an item's traits, NaN where there is no total), and those of `_counted`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field

from scoremux_client.contract import MACHINE, Reason
from scoremux_client.errors import InputError
from scoremux_decide.decision import Decision
from scoremux_evidence.rows import rules
from scoremux_evidence.rows.table import Floats, Ints, Mask, Rows
from scoremux_files.rows.codes import Codes, codes_of
from scoremux_files.rows.readers import read_rows
from scoremux_files.settings import validate

_CODES = (
    "id", "source", "task", "version", "status", "student", "administration", "cluster", "condition", "route",
)  # fmt: skip
_NUMBERS = ("line", "confidence", "read_behind", "decision", "machine_total", "first_total")
_HUMAN = ("rater", "agreement", "adjudication")
CODED, UNSURE, UNUSUAL = "condition codes", "low confidence", "unusual"
LEAST_PAPERS = 10
_REMEDY = "write the file with `scoremux review export --out`, and the newest version"


_OrBlank = BeforeValidator(lambda cell: "" if cell is None else cell)
_Text = Annotated[str, _OrBlank]
_Share = Annotated[float, Field(ge=0, le=1)]
_Number = Annotated[int, Field(ge=-1, lt=2**53)]


def _day(time: str) -> str:
    if not (day := rules.day_of(time)):
        raise ValueError("does not begin with a day, YYYY-MM-DD")
    return day


class _FinalRow(BaseModel, allow_inf_nan=False, coerce_numbers_to_str=True):
    """A row of the desk's export; added_at: its day, as YYYY-MM-DD."""

    id: _Text
    task: _Text
    status: _Text
    machine_level: _Number | None
    route: _Text
    read_behind: _Share | None
    version: Annotated[str, Field(pattern=r"^[\w.-]{0,64}$"), _OrBlank]
    decided_by: _Text
    added_at: Annotated[_Text, AfterValidator(_day)]
    first_level: _Number | None
    confidence: _Share | None = None
    condition: _Text = ""
    student: _Text = ""
    administration: _Text = ""
    decision: _Number | None = None
    cluster: _Text = ""
    source: _Text = ""
    line: _Number | None = None
    machine_total: float | None = None
    first_total: float | None = None


class Share(NamedTuple):
    """A share of rows that is watched without labels.

    Attributes:
        usual: The share among the rows that the decision was fitted to, None where these do not tell.
        rows: How many rows these are.
        has_it: 1 for a row that is part of it, else 0; NaN for a row that it is not about, [B].
    """

    name: str
    usual: float | None
    rows: int
    has_it: Floats


@dataclass(frozen=True)
class WatchedTask:
    """A task under one calibration.

    Attributes:
        version: The digest of the version that was calibrated.
        decision: None where the version is unknown or has no calibration.
        rows: In the order of their days.
        is_total: Whether `task` is an item, and the levels of its rows are totals of the item's traits.
    """

    task: str
    version: str
    decision: Decision | None
    rows: Rows
    is_total: bool = False

    @cached_property
    def days(self) -> list[str]:
        """The days with rows, in order."""
        return days_of(self.rows)

    @cached_property
    def held_days(self) -> list[str]:
        """The days with rows that a version on hold scored, in order."""
        return days_of(self.rows.where(self.rows.on_hold))

    @property
    def has_clusters(self) -> bool:
        """Whether rows name a cluster, such as their school."""
        return bool((self.rows.cluster.code >= 0).any())

    def promises(self) -> Iterator[tuple[str, float, float]]:
        """Yield the promises about the rows that the machine keeps: their name, greatest share and least error.

        `within_of_humans` compares with a second human, whom read-behind rows do not have.
        """
        threshold = self.decision.threshold if self.decision else None
        if threshold is None or threshold.least is None:
            return
        if self.is_total:
            if threshold.total_share is not None and threshold.total_within is not None:
                yield "total", 1 - threshold.total_share, threshold.total_within + 1e-9
            return
        if threshold.exact is not None:
            yield "exact", 1 - threshold.exact, 1
        if threshold.critical is not None:
            yield "critical", threshold.critical, 2

    def since_hold(self) -> Rows:
        """Return the rows since the last hold began, or all: the hold has answered the days before it."""
        begun = [
            day for last, day in pairwise(["", *self.days]) if day in self.held_days and last not in self.held_days
        ]
        return self.rows.where(self.rows.day >= max(begun, default=""))

    def shares(self) -> list[Share]:
        """Return the shares that are watched without labels. Levels of rows with a code count for none."""
        expected = self.decision and self.decision.expected
        threshold = self.decision and self.decision.threshold
        if not self.decision or not expected or not threshold:
            return []
        rows = self.rows
        has_code = rows.condition.code >= 0
        is_about = ~has_code & ~np.isnan(rows.machine)

        def share(name: str, usual: float | None, has_it: Mask, about: Mask) -> Share:
            return Share(name, usual, expected.rows, np.where(about, has_it, np.nan))

        shares = [share(CODED, None, has_code, np.ones(len(rows), bool))]
        for level, usual in enumerate(expected.levels or ()):
            shares.append(share(f"level {level}", usual, rows.machine == level, is_about))
        if threshold.least is not None:
            is_unsure = (rows.confidence < threshold.least) | rows.route.among([Reason.LOW_CONFIDENCE.route])
            shares.append(share(UNSURE, threshold.share, is_unsure, is_about & ~np.isnan(rows.confidence)))
        if unusual := self.decision.unusual:
            shares.append(share(UNUSUAL, 1 - unusual.quantile, rows.route.among([Reason.UNUSUAL.route]), is_about))
        return shares


def days_of(rows: Rows) -> list[str]:
    """Return the days with rows, in order."""
    days: list[str] = np.unique(rows.day).tolist()
    return days


def read_watched(
    path: Path, decision_of: Callable[[str], Decision | None], late_before: str, cluster: str = "cluster"
) -> list[WatchedTask]:
    """Read the output of `scoremux review export --out`; its rows are in the order in which they came to the desk.

    Args:
        decision_of: Returns the decision of a version, given its digest.
        late_before: Picked rows that came before this day and were not read are late.
        cluster: The column that says which rows belong together.

    Raises:
        InputError: The file is not such an export.
    """
    cells = _read_cells(path, cluster)
    if not cells["task"]:
        return []
    rows = _as_rows(cells)
    held = {version: decision.held for version in rows.version.values if (decision := decision_of(version))}
    rows = rows.plus(
        on_hold=rows.version.among(version for version in held if held[version]),
        version=rows.version.renamed(lambda version: held.get(version) or version),
    )
    watched = []
    for part, is_total in ((rows, False), (_totals(rows), True)):
        for task, of_task in _counted(part, late_before).by_task().items():
            for code in np.unique(of_task.version.code).tolist():
                own = of_task.where(of_task.version.code == code)
                own = own.where(np.argsort(own.day, kind="stable"))
                version = (*rows.version.values, "")[code]
                decision = decision_of(version) if version else None
                if decision and not is_total:
                    decision = decision.of(task.rpartition(".")[2])
                watched.append(WatchedTask(task, version, decision, own, is_total))
    return sorted(watched, key=lambda task: (task.task, task.days[0]))


def _totals(rows: Rows) -> Rows:
    """Return a row for each response of an item whose machine's total is known, with totals in place of levels.

    A response is read when all of its traits are.
    """
    rows = rows.where(~np.isnan(rows.machine_total))
    rows = rows.plus(task=rows.task.renamed(lambda task: task.rpartition(".")[0]))
    keys = np.stack([rows.task.code, rows.id.code, rows.source.code, rows.line])
    _, first, response = np.unique(keys, axis=1, return_index=True, return_inverse=True)
    is_read = np.bincount(response.ravel(), ~rows.is_read) == 0
    order = np.argsort(first)
    rows = rows.where(first[order]).plus(is_read=is_read[order])
    return rows.plus(machine=rows.machine_total, human=rows.first_total, confidence=np.full(len(rows), np.nan))


def _read_cells(path: Path, cluster: str) -> dict[str, list[Any]]:
    """Return the cells of each column."""
    columns: dict[str, list[Any]] = {name: [] for name in _FinalRow.model_fields}
    for number, cells in enumerate(read_rows(path), start=1):
        values = {name: None if cell == "" else cell for name, cell in cells.items()}  # CSV knows no null
        values["cluster"] = values.get(cluster)
        try:
            row = validate(_FinalRow.model_validate, values)
        except ValueError as error:
            raise InputError(f"{path}: row {number}: {error}; {_REMEDY}") from error
        for name, cell in row:
            columns[name].append(cell)
    return columns


def _as_rows(cells: Mapping[str, Sequence[Any]]) -> Rows:
    """Return rows of the export. cells: of each column."""

    def codes(name: str) -> Codes:
        return codes_of([cell or None for cell in cells[name]]).take(np.arange(len(cells[name])))

    human, machine = (np.array(cells[name], float) for name in ("first_level", "machine_level"))
    return Rows.of(
        day=np.array(cells["added_at"], "U10"),
        **{name: codes(name) for name in _CODES},
        **{name: np.array(cells[name], float) for name in _NUMBERS},
        machine=np.where(machine < 0, np.nan, machine),
        human=np.where(human < 0, np.nan, human),
        is_read=codes("decided_by").among(_HUMAN) | ~np.isnan(human),
    )


def _counted(rows: Rows, late_before: str) -> Rows:
    """Return rows with what counts of each.

    Columns: kept (whether the machine keeps the row, or would keep it without a hold), doubt (1 − confidence of a row
    that is kept, else NaN), error (of a kept row that people read as well, how far the machine was above the first
    person's level, else NaN), coded (whether people gave a code in place of that level: promises are about levels, as
    calibrations are) and late (whether people were to read the row and did not in time).

    A promise is about one person's level: a level that two people settled is nearer to the machine. A row whose second
    reading or adjudication still waits counts with its first.
    """
    is_held = rows.route.among([Reason.HELD.route])
    kept = (rows.route.among([MACHINE]) | is_held) & ~np.isnan(rows.machine)
    drawn = kept & (is_held | ~np.isnan(rows.read_behind))
    read = np.flatnonzero(drawn & rows.is_read)
    counts = np.zeros(len(rows), bool)
    counts[read] = ~rules.read_again(rows.where(read))
    coded = counts & np.isnan(rows.human)
    return rows.plus(
        kept=kept,
        doubt=np.where(kept, 1 - rows.confidence, np.nan),
        error=np.where(counts & ~coded, rows.machine - rows.human, np.nan),
        coded=coded,
        late=drawn & ~rows.is_read & ~is_held & (rows.day < late_before),
    )


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
            day = _day(str(row["decided_at"]))
            of_task = papers.setdefault(str(row["task"]), Papers())
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError):
            raise InputError(f"{path}: row {number} is no reading; write it by `review export --papers`") from None
        readings = of_task.recent if day >= recent_from else of_task.before
        readings += (wrong, 1)
    return papers
