"""One row of a file of labelled rows: the names of its columns, and the values of its cells."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from math import isnan, nan
from pathlib import Path
from typing import Any

from scoremux_client.contract import TASK_PATTERN
from scoremux_evidence.rows.points import DIGITS
from scoremux_files.errors import InputError
from scoremux_files.rows.readers import CHOSEN_BY, cell_text
from scoremux_files.rows.row_layout import column_names, columns_beside

Key = tuple[str, str, str]
"""Task, id and administration."""

NO_NUMBER = "have a level in the truth that is not a number"
NO_LEVEL = "points of no level of their task"
NO_SECOND = "have a second level that is not a number, or points that no level has, and count without it"

TRAINING = ("", "train", "training")
"""Values of the column `split` whose rows are trained on; all others are held out."""

_MACHINE_COLUMNS = {"version", "arithmetic"}, {"decided_by", "machine_level"}
"""Outputs of `score` and `sample` have the first two, final scores the others: levels and scores are the machine's."""

_MOST, _SUM_WITHIN = 1e9, 1e-3
_COMMA = re.compile(r"[+-]?\d+,\d{1,2}")


@dataclass(frozen=True)
class LabelColumns:
    """Names of the columns in files of labelled rows; a column whose name is empty is not read.

    Attributes:
        id: Of ids; a row without one is named FILE:LINE.
        administration: Of the part of a key that differs where ids are equal: a year, a school, a file.
        score: Of a person's points, for rows without a level; their second level is points, too.
        second: Of a second person's level or points.
        rater: Of who gave the level; rows of one response by two raters become one row.
        groups: Columns to keep, such as schools.
        levels: Words in place of levels, and the levels that they stand for.
        own_names: Whether a column that a file lacks may have the name of its field.
        predicted: Whether to read the probabilities that `scoremux train` predicted.
    """

    id: str = "id"
    task: str = "task"
    administration: str = "administration"
    text: str = "text"
    level: str = "level"
    score: str = ""
    second: str = ""
    rater: str = "rater"
    student: str = ""
    split: str = "split"
    groups: Sequence[str] = ()
    levels: Mapping[str, int] = field(default_factory=dict)
    own_names: bool = False
    predicted: bool = False

    def named(self) -> list[str]:
        """Return the fields whose column was named."""
        return [key for key in _KEYS if getattr(self, key) not in ("", getattr(LABEL_COLUMNS, key))]

    def present(
        self,
        file: Path,
        names: Collection[str],
    ) -> dict[str, str]:
        """Return the columns that a file has, by field. A file of the desk keeps its own names.

        names: all of its columns. Raises InputError where only the machine's levels would be read as people's.
        """
        columns = {key: getattr(self, key) for key in _KEYS}
        read = {*names}
        if self.own_names or CHOSEN_BY in names:
            columns = {key: name if name in names else name and key for key, name in columns.items()}
        if columns["level"] == columns["score"]:
            columns["level"] = ""  # the column has points
        if any(pair <= read for pair in _MACHINE_COLUMNS):
            read -= {"level", "score"}
            if self.level and not read & {columns["level"], columns["score"]}:
                raise InputError(
                    f"{file}: its column level has the machine's levels. The desk's --labelled export has those of "
                    "people; if another column has them, name it with --column level=NAME, or score=NAME for points"
                )
        return {key: name for key, name in columns.items() if name in read}


_KEYS = (
    "id",
    "task",
    "administration",
    "text",
    "level",
    "score",
    "second",
    "rater",
    "student",
    "split",
)
LABEL_COLUMNS = LabelColumns()


def label_columns(options: Sequence[str] | None, *keys: str, group: str = "", data: Path | None = None) -> LabelColumns:
    """Return the columns that `--column` names, or `columns.toml` beside the data.

    Args:
        keys: Those of the command, beside the ones that all of them have.
        group: The key of columns to keep, empty for none.
    """
    names = {
        key: getattr(LABEL_COLUMNS, key)
        for key in (
            "id",
            "task",
            "administration",
            "text",
            "student",
            *keys,
        )
    }
    chosen = column_names(
        options,
        data,
        **names,
        **({group: ()} if group else {}),
    )
    return LabelColumns(
        groups=chosen.pop(group, ()),
        levels=columns_beside(data).get("levels", {}),
        **chosen,
    )


@dataclass(slots=True)
class LabelledRow:
    """A response with the levels that people gave it.

    Attributes:
        level: The first person's, NaN where there is none.
        second: Another person's, None where there is none.
        where: Its file and line, for messages.
        text: None where the file has no texts.
        probabilities: Those of an adapter that was not fitted to the row; None: the live version scores it.
        weight: 1 / the probability with which it was chosen to be read; NaN: it is part of no figure.
        chosen_by: How it was chosen, see `weights`.
        version: The one that scored it before it was read.
        adapter: The digest of the adapter that its prediction belongs to.
        seen_by_start: Whether its adapter's start was trained on its task, so that the prediction is too good.
        text_check: Of the text that its prediction is of, see `readers.text_check`.
        administration: With task and id it names the response.
        probability: With which it was chosen to be read, NaN where that is not known, 0 where it is not a number.
        score: Points, NaN where there are none.
        split: Its use; see `TRAINING`.
        groups: Cells of further columns, empty where there is none.
        remarks: Faults of its levels: `NO_NUMBER`, `NO_LEVEL`, `NO_SECOND`.
        has_id: Whether its file names it; if not, `id` is its place there.
    """

    id: str
    task: str
    level: float
    second: float | None
    where: str = ""
    text: str | None = None
    probabilities: Sequence[float] | None = None
    student: str | None = None
    weight: float = 1.0
    chosen_by: str | None = None
    version: str | None = None
    adapter: str | None = None
    seen_by_start: bool = False
    text_check: str | None = None
    administration: str = ""
    probability: float = nan
    score: float = nan
    rater: str = ""
    split: str = ""
    groups: Mapping[str, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    has_id: bool = True

    @property
    def key(self) -> Key:
        """The key of the response."""
        return self.task, self.id, self.administration

    @property
    def response(self) -> str:
        """The text, blank where there is none."""
        return self.text or ""

    @property
    def trained(self) -> bool:
        return self.split.lower() in TRAINING

    @property
    def has_level(self) -> bool:
        """Whether a person gave it a level or points."""
        return not (isnan(self.level) and isnan(self.score))

    def take_level(self, points: Iterable[float]) -> None:
        """Take the levels that have its points, if it has no level. points: of its task's levels, NaN where unknown."""
        if isnan(self.level) and not isnan(self.score):
            self.level = _level_worth(points, self.score)
            self.score = nan
            if isnan(self.level):
                self.remarks += (NO_LEVEL,)
            if self.second is not None:
                self.second = _level_worth(points, self.second)
                if isnan(self.second):
                    self.second = None
                    self.remarks += (NO_SECOND,)

    def check(self, levels: int) -> None:
        """Raise InputError if a level or the probabilities are not those of a task with so many levels."""
        for value in (self.level, self.second):
            if value is not None and not (0 <= value < levels and float(value).is_integer()):
                raise InputError(f"{self.where}: level {value:g}, but {self.task} has levels 0 to {levels - 1}")
        if self.probabilities is None:
            return
        if len(self.probabilities) != levels:
            count = len(self.probabilities)
            raise InputError(f"{self.where}: {count} probabilities, but {self.task} has {levels} levels")
        if not (min(self.probabilities) >= 0 and abs(sum(self.probabilities) - 1) <= _SUM_WITHIN):
            raise InputError(f"{self.where}: the probabilities are not numbers from 0 to 1 that sum to 1")


def _level_worth(points: Iterable[float], number: float) -> float:
    """Return the level that has some points, NaN where none has. points: of level 0, 1, …"""
    return next(
        (float(n) for n, value in enumerate(points) if abs(value - number) < 10.0**-DIGITS),
        nan,
    )


Rows = Sequence[LabelledRow]


def number(value: object) -> tuple[float, bool]:
    """Return the number in a cell, NaN where there is none, and whether the cell has something else."""
    if value is None:
        return nan, False
    if isinstance(value, str):
        value = value.strip()
        value = value.replace(",", ".") if _COMMA.fullmatch(value) else value
    if value in (None, "") or value != value:
        return nan, False
    try:
        result = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return nan, True
    return (result, False) if abs(result) < _MOST else (nan, True)


@lru_cache(1 << 12)
def _groups(*cells: tuple[str, str]) -> Mapping[str, str]:
    """Return cells by column; rows with the same ones share them."""
    return dict(cells)


def labelled_row(
    file: Path, line: int, values: Mapping[str, Any], present: Mapping[str, str], columns: LabelColumns
) -> LabelledRow:
    """Return a row from its cells. present: from `LabelColumns.present`."""
    cells = {key: values.get(name) for key, name in present.items()}
    for key in ("level", "second") if columns.levels else ():
        cells[key] = columns.levels.get(str(cells.get(key)).strip(), cells.get(key))
    keys = ("level", "second", "score")
    (level, bad), (second, bad_second), (points, bad_points) = (number(cells.get(key)) for key in keys)
    probability, bad_probability = number(values.get("probability"))
    remarks = []
    if (bad or bad_points) and isnan(level) and isnan(points):
        remarks.append(NO_NUMBER)
    if bad_second:
        remarks.append(NO_SECOND)
    name = cells.get("id")
    text = cells.get("text")
    row = LabelledRow(
        id=f"{file.name}:{line}" if name in (None, "") else str(name),
        task=cell_text(cells.get("task")) or "",
        level=level,
        second=None if isnan(second) else second,
        where=f"{file}, line {line}",
        text=text if isinstance(text, str) else None,
        student=cell_text(cells.get("student")),
        chosen_by=cell_text(values.get(CHOSEN_BY)),
        version=cell_text(values.get("version")),
        administration=cell_text(cells.get("administration")) or "",
        probability=0.0 if bad_probability else probability,
        score=points,
        rater=cell_text(cells.get("rater")) or "",
        split=str(cells.get("split") or ""),
        groups=_groups(*((name, cell_text(values.get(name)) or "") for name in columns.groups)),
        remarks=tuple(remarks),
        has_id=name not in (None, ""),
    )
    if columns.predicted:
        shares = values.get("probabilities")
        if isinstance(shares, (list, tuple)) and all(type(share) in (int, float) for share in shares):
            row.probabilities = tuple(shares)
        row.seen_by_start = values.get("seen") is True
        row.adapter = cell_text(values.get("adapter"))
        row.text_check = cell_text(values.get("text_check"))
    return row


def problem_of(
    row: LabelledRow,
    needed: Collection[str],
    present: Mapping[str, str],
    columns: LabelColumns,
) -> str:
    """Return why a row without the fields that are needed cannot be used, empty if it can; quotes no cell."""
    if not (needed or columns.predicted):
        return ""
    has = {
        "id": "id" in present,
        "task": bool(row.task),
        "text": row.text is not None,
        "level": row.has_level,
    }
    for key in needed:
        name = present.get(key, getattr(columns, key))
        if key == "task" and row.task and not TASK_PATTERN.fullmatch(row.task):
            # It may be a text, which must not be shown.
            return f"{name} is not a task's id (letters, digits, . _ -); name another column with --column task=NAME"
        if not has[key]:
            if key == "level":
                words = "; words need [levels] in columns.toml" if NO_NUMBER in row.remarks else ""
                points = columns.score
                if points != name:
                    name += f" or {points}" if points else ", counted from 0"
                return f"no number in {name}{words}"
            return f"no {name}"
    if columns.predicted and row.probabilities is None:
        return "probabilities is not a list of numbers"
    if "level" in needed and not (isnan(row.probability) or 0 < row.probability <= 1):
        return "probability is not a number above 0 and at most 1"
    return ""
