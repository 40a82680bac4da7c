"""Rows: the one shape in which every command has its rows."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scoremux_files.rows.codes import Codes

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Values = npt.NDArray[Any]

Levels = Sequence[float | None] | Values
"""Levels that someone gave, NaN or None where there is none."""

Key = tuple[str, str, str]
"""Task, id and administration: they name a response."""

LEAST_STUDENTS = 10
"""Of fewer students no figure is shown anywhere: they could be a single class."""

Reasons = Mapping[str, Sequence[str]]
"""Why rows are left out, in words that follow "N rows …", and the ids or places of these rows."""


@dataclass(frozen=True)
class Rows:
    """B rows as named columns, `rows.level` or `rows["level"]`, and the rows that were left out of them by reason.

    A column is a numpy array, [B] or [B, …], or, of few values or of ids, `Codes` or an Arrow array. Columns of levels
    are float64, and NaN stands for no level. `reading`, `predicted` and `matching` say which columns they make.
    """

    columns: Mapping[str, Any]
    left_out: Reasons = field(default_factory=dict)

    @classmethod
    def of(cls, **columns: Any) -> "Rows":
        """Return rows with these columns. A list becomes an array."""
        return cls({name: np.array(c) if isinstance(c, (list, tuple, range)) else c for name, c in columns.items()})

    @classmethod
    def joined(cls, parts: "Iterable[Rows]") -> "Rows":
        """Return the rows of all parts, which have the same columns, and all that was left out of them."""
        parts = list(parts)
        columns = {name: _joined([part[name] for part in parts]) for name in parts[0].columns}
        return cls(columns).noting(*(part.left_out for part in parts))

    def __len__(self) -> int:
        return len(getattr(first := next(iter(self.columns.values())), "code", first))

    def __contains__(self, name: str) -> bool:
        return name in self.columns

    def __getitem__(self, name: str) -> Any:
        return self.columns[name]

    def __getattr__(self, name: str) -> Any:
        if name in ("columns", "left_out") or name not in self.columns:
            raise AttributeError(f"these rows have no column {name}")
        return self.columns[name]

    def get(self, name: str) -> Any:
        """Return a column, None if there is no such column."""
        return self.columns.get(name)

    def plus(self, **columns: Any) -> "Rows":
        """Return the rows with more columns, or with other ones of these names."""
        return replace(self, columns={**self.columns, **columns})

    def only(self, names: Collection[str]) -> "Rows":
        """Return the rows with those of their columns that are named."""
        return Rows({name: column for name, column in self.columns.items() if name in names})

    def where(self, rows: Values | Sequence[int] | slice) -> "Rows":
        """Return some rows: those of a mask, of places, or of a slice."""
        if not isinstance(rows, slice):
            rows = np.asarray(rows)
            rows = np.flatnonzero(rows) if rows.dtype == bool else rows.astype(np.int64)
        return replace(self, columns={name: _taken(column, rows) for name, column in self.columns.items()})

    def without(self, reasons: Mapping[str, Mask]) -> "Rows":
        """Leave rows out. reasons: which rows, by the reason why."""
        if not any(mask.any() for mask in reasons.values()):
            return self
        return self.counting(reasons).where(~np.logical_or.reduce([*reasons.values()]))

    def counting(self, reasons: Mapping[str, Mask]) -> "Rows":
        """Return all rows, and note some of them among those left out: they count without a part of theirs."""
        return self.noting({reason: self.names(mask) for reason, mask in reasons.items() if mask.any()})

    def noting(self, *reasons: Reasons) -> "Rows":
        """Return the rows with more reasons for which others were left out."""
        left_out: dict[str, Sequence[str]] = {**self.left_out}
        for of_part in reasons:
            for reason, rows in of_part.items():
                left_out[reason] = [*left_out[reason], *rows] if reason in left_out else rows
        return replace(self, left_out=left_out) if left_out else self

    def names(self, mask: Mask) -> Sequence[str]:
        """Return FILE:LINE of some rows; of rows of an output, which have no lines, the ids."""
        rows = np.flatnonzero(mask)
        if "file" not in self:
            ids: Sequence[str] = _taken(self.id, rows)
            return ids
        files = [Path(file or "").name for file in self.file.take(rows).texts()]
        return [f"{file}:{line}" for file, line in zip(files, self.line[rows].tolist(), strict=True)]

    def place(self, row: int) -> str:
        """Return the file and line of a row."""
        return f"{self.file.values[self.file.code[row]]}, line {self.line[row]}"

    def response_keys(self) -> list[Key]:
        """Return the key of each row."""
        columns = (self.task.texts(), self.id.tolist(), self.administration.texts())
        return [(task or "", name, administration or "") for task, name, administration in zip(*columns, strict=True)]

    def by_task(self) -> "dict[str, Rows]":
        """Return the rows of each task, in the order in which tasks first come."""
        order = np.argsort(self.task.code, kind="stable")
        codes, first = np.unique(self.task.code[order], return_index=True)
        parts = np.split(order, first[1:]) if len(order) else []
        in_order = sorted(range(len(parts)), key=lambda part: parts[part][0])
        names = (*self.task.values, "")
        return {names[codes[part]]: replace(self.where(parts[part]), left_out={}) for part in in_order}


def by_reason(reasons: Sequence[str]) -> dict[str, Mask]:
    """Return which rows have each reason. reasons: of each row, empty for none, [B]."""
    column = np.array(reasons, object)
    return {reason: column == reason for reason in dict.fromkeys(reasons) if reason}


def groups_of(rows: Rows) -> dict[str, Codes]:
    """Return the columns of groups by name."""
    return {name.removeprefix("group "): rows[name] for name in rows.columns if name.startswith("group ")}


RATED = ("human", "machine", "second", "weight", "kept", "length", "student", "cluster")
"""Columns of rows whose levels are compared, see `rated`."""


def rated(
    human: Levels,
    machine: Levels,
    second: Levels | None = None,
    *,
    weight: Values | None = None,
    student: Values | None = None,
) -> Rows:
    """Return rows with the levels of humans and of the machine: the columns of `RATED`.

    Which rows the machine keeps, and their lengths, are not known.

    Args:
        human, machine: Levels, [B].
        second: Levels of a second human, NaN or None where there is none; None if no row has one.
        weight: 1 / the probability with which a row was chosen to be read by people; 1 if None.
        student: A number for the student who wrote the row; rows are independent if None, and have no such column.
    """

    def column(values: Any, otherwise: float) -> Values:
        return np.broadcast_to(otherwise, len(human)) if values is None else np.asarray(values, np.float64)

    rows = Rows.of(
        human=column(human, np.nan),
        machine=column(machine, np.nan),
        second=column(second, np.nan),
        weight=column(weight, 1.0),
        kept=column(None, np.nan),
        length=column(None, np.nan),
    )
    return rows if student is None else rows.plus(student=student)


def units_of(rows: Rows) -> Any:
    """Return the column that says which rows are not independent: the cluster, else the student; None without both."""
    return rows.cluster if "cluster" in rows else rows.get("student")


def undefined() -> AbstractContextManager[None]:
    """Let divisions by zero, and sums with NaN, be NaN or infinite without a warning."""
    return np.errstate(invalid="ignore", divide="ignore", over="ignore")


def by_cell(cell: Values, values: Floats, cells: int) -> Floats:
    """Return the sum of the values in each of `cells` cells, [C]."""
    return np.bincount(cell, values, cells).astype(np.float64, copy=False)


def students_in(cell: Ints, cells: int, student: Ints | None) -> Ints:
    """Return how many students, or rows if nothing says who wrote them, each cell has, [C]. cell: of each row, [B]."""
    once = cell if student is None else np.unique(np.stack([cell, student]), axis=1)[0]
    return np.bincount(once, minlength=cells)


def own_numbers(student: Values) -> Ints:
    """Return numbers of students; a row with −1, whose student is not known, gets one of its own."""
    unknown = student.max(initial=-1) + 1 + np.arange(len(student))
    return np.where(student < 0, unknown, student)


def _taken(column: Any, rows: Ints | slice) -> Any:
    is_indexed = isinstance(column, np.ndarray) or (isinstance(rows, slice) and not isinstance(column, Codes))
    return column[rows] if is_indexed else column.take(rows)


def _joined(columns: Sequence[Any]) -> Any:
    if not isinstance(columns[0], Codes):
        return np.concatenate(columns)
    values = tuple(sorted({value for codes in columns for value in codes.values}))
    place = {value: code for code, value in enumerate(values)}
    code = [np.array([*(place[v] for v in codes.values), -1], np.int32)[codes.code] for codes in columns]
    return Codes(values, np.concatenate(code))
