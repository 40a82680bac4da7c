"""Files of labelled rows → Rows: one row for each response, and each line that was left out, with the reason.

A response is named by task, id and administration. Lines of one name with different raters are one row, equal lines
count once, and lines that contradict each other are refused.

Columns: id (of objects; FILE:LINE where `has_id` is false), task, administration, rater, student, cluster, split,
chosen_by, version, status and adapter (`Codes`), `group NAME` for each column of groups (`Codes`), text (None where the
file has none), level and second (of two people), score (points in place of a level), probability (with which the row
was chosen; 0 where it is not a number), no_number, no_level and no_second (faults of the levels), file and line; from
`weighing` weight and stated; of predictions probabilities (a tuple or None) and text_check.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import isnan, nan
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from scoremux_client.contract import TASK_PATTERN, TOTAL
from scoremux_evidence.rows.label_columns import LABEL_COLUMNS, LabelColumns
from scoremux_evidence.rows.table import Floats, Key, Mask, Rows, by_reason
from scoremux_evidence.rows.weighing import weighed
from scoremux_files.errors import InputError, first_of
from scoremux_files.rows.codes import Codes
from scoremux_files.rows.columns import encode
from scoremux_files.rows.readers import CHOSEN_BY, cell_text, files_of, read_records, same_text
from scoremux_files.rows.row_layout import Record, RowLayout, list_columns, renamed_by

REPEATED = "are given twice, with the same text and levels"
SECOND_RATER = "are given by a second rater, whose level counts beside the first"
OTHER_KIND = "are given by a second rater, whose points do not count beside a level, nor a level beside points"
THIRD_RATER = "are given by a third rater; a response counts with the levels of two"

_CODES = (
    "task",
    "administration",
    "rater",
    "student",
    "cluster",
    "split",
    CHOSEN_BY,
    "version",
    "adapter",
    "decided_at",
    "status",
)
_OWN_NAMES = (CHOSEN_BY, "version", "probability", "decided_at", "status")
_OF_PREDICTIONS = ("probabilities", "adapter", "text_check")
_CELLS = ("id", "text", "level", "second", "score", "probability", "probabilities", "text_check")

_LEVELS = ("level", "score", "second")

_MOST = 1e9
_COMMA = re.compile(r"[+-]?\d+,\d{1,2}")


@dataclass(frozen=True)
class Labels:
    """The rows of labelled files, and what the files have.

    Attributes:
        present: Fields of `LabelColumns` that some file has.
        names: The columns of all files.
    """

    rows: Rows
    present: Collection[str]
    names: Collection[str]
    paths: Sequence[Path] = ()

    def require(self, columns: LabelColumns, *keys: str) -> None:
        """Raise InputError if the files lack a column that was named, or that of one of `keys`."""
        absent = [getattr(columns, key) for key in (*keys, *columns.named()) if key not in self.present]
        groups = [name for name in columns.groups if name not in self.names]
        absent += groups
        of_traits = [name for name in columns.traits.values() if name not in self.names]
        absent += of_traits if len(of_traits) < len(columns.traits) else []
        if absent and self.names:
            hint = column_hint(self.names) + renamed_by(self.paths[0], absent[0])
            if absent == groups:
                hint += f"; `scoremux score --keep {absent[0]}` brings it to scores and to the desk's exports"
            raise InputError(f"{first_of([*map(str, self.paths)])} has no column {absent[0]}{hint}")


def read_labels(
    paths: Sequence[Path], columns: LabelColumns = LABEL_COLUMNS, needed: Collection[str] = (), *, strict: bool = True
) -> Labels:
    """Read labelled rows of .csv, .jsonl and .parquet files, of exports of the desk, and of folders of a job.

    Args:
        needed: Fields of `LabelColumns` that each row must have.
        strict: Refuse a line that cannot be used; one whose level is blank stays. Otherwise both are left out.

    Raises:
        InputError: A file cannot be read, a line cannot be used, or lines contradict each other.
    """
    lines = _Lines(columns, needed, strict)
    for path in paths:
        for file in files_of(path):
            lines.read(file)
    rows = _one_row_each(lines.rows())
    return Labels(weighed(rows), lines.present, lines.names, paths)


def column_hint(names: Iterable[str]) -> str:
    """Return the hint that follows the name of a missing column. names: the columns that there are."""
    return f" (its columns: {list_columns([*names])}); name it with --column KEY=NAME"


def common_key(*files: Labels) -> Callable[[Rows], list[Key]]:
    """Return the keys of rows in all of some files: without administrations where one of them has none."""
    if all("administration" in labels.present for labels in files):
        return Rows.response_keys
    return lambda rows: [(task, name, "") for task, name, _ in rows.response_keys()]


class _Lines:
    """The lines of all files as cells by column, and why some cannot be used."""

    def __init__(self, columns: LabelColumns, needed: Collection[str], strict: bool) -> None:
        self.present: set[str] = set()
        self.names: dict[str, None] = {}
        if columns.traits and not columns.score:
            columns = replace(columns, score="score")  # of the rows of traits
        self._columns, self._needed, self._strict = columns, needed, strict
        self._groups = {f"group {name}": name for name in columns.groups}
        self._parts: list[Rows] = []

    def read(self, file: Path) -> None:
        """Read a file. Raises InputError."""
        cells: dict[str, list[Any]] = {name: [] for name in (*_CELLS, *_CODES, *self._groups)}
        numbers: list[int | None] = []
        unread: dict[int, str] = {}
        names: Collection[str] = ()
        present: dict[str, str] = {}
        filled: list[tuple[list[Any], str]] = []
        of_file = {name: name for name in (*_OWN_NAMES, *(_OF_PREDICTIONS if self._columns.predicted else ()))}
        of_file |= self._groups
        for record in self._records(file):
            if not record.reason and record.values.keys() != names:
                names = record.values.keys()
                of_record = self._columns.present(file, names)
                _fill(cells, len(numbers))
                sources = {**of_file, **of_record}
                filled = [(cells[field], name) for field, name in sources.items() if name in names]
                present |= of_record
                self.names |= dict.fromkeys(names)
            if not record.reason and all(cell in (None, "") for cell in record.values.values()):
                continue  # a blank line
            if record.reason:
                unread[len(numbers)] = record.reason
            for column, name in filled:
                column.append(record.values.get(name))
            numbers.append(record.line)
            if record.reason and self._strict:
                break
        _fill(cells, len(numbers))
        self._parts.append(self._usable(file, cells, numbers, unread, present))
        self.present |= present.keys()
        if self._strict and names and "level" in self._needed and not present.keys() & {"level", "score"}:
            hint = column_hint(self.names) + renamed_by(file, self._columns.level)
            raise InputError(f"{file} has no column {self._columns.level}{hint}")

    def _records(self, file: Path) -> Iterator[Record]:
        """Yield the lines of a file; a line with points of an item's traits as a line for each of these traits."""
        columns = self._columns
        apart = {*columns.traits.values(), columns.level, columns.second}
        for record in read_records(file, RowLayout(columns.id, text=columns.text, every_column=True)):
            points = {
                trait: cell
                for trait, name in columns.traits.items()
                if (cell := record.values.get(name)) not in (None, "") and cell == cell
            }
            task = cell_text(record.values.get(columns.task)) or ""
            if record.reason or not points or task.rpartition(".")[2] in (*columns.traits, TOTAL):
                yield record
                continue
            self.names |= dict.fromkeys(record.values)
            others = {name: cell for name, cell in record.values.items() if name not in apart}
            for trait, cell in points.items():
                named = {columns.task: f"{task}.{trait}" if task else None, columns.score: cell}
                yield record._replace(values={**others, **named})

    def rows(self) -> Rows:
        """Return the rows of the lines that can be used."""
        if not self._parts:
            self._parts.append(_as_rows({name: [] for name in (*_CELLS, *_CODES, *self._groups)}, "", []))
        return Rows.joined(self._parts)

    def _usable(
        self,
        file: Path,
        cells: dict[str, list[Any]],
        numbers: list[int | None],
        unread: dict[int, str],
        present: dict[str, str],
    ) -> Rows:
        """Return the lines of a file that can be used as rows."""
        levels = self._columns.levels
        for name in ("level", "second") if levels else ():  # which have 1 for 1.0
            cells[name] = [levels.get(str(cell).strip().removesuffix(".0"), cell) for cell in cells[name]]
        rows = _as_rows(cells, str(file), numbers)
        problems = {place: ("line", why) for place, why in unread.items()}
        for key, mask, why in self._faults(rows, present):
            for place in np.flatnonzero(mask).tolist():
                problems.setdefault(place, (key, why))
        reasons = [""] * len(rows)
        for place, (key, why) in sorted(problems.items()):
            if self._strict and key == "level" and not rows.no_number[place]:
                continue
            if self._strict:
                hint = column_hint(self.names) if why.startswith("no ") else ""
                where = file if numbers[place] is None else f"{file}, line {numbers[place]}"
                raise InputError(f"{where}: {why}{hint}")
            reasons[place] = f"cannot be used: {why}"
        return rows.without(by_reason(reasons))

    def _faults(self, rows: Rows, present: dict[str, str]) -> Iterator[tuple[str, Mask, str]]:
        """Yield fields that are needed, which rows have no usable value of it, and why; the words quote no cell."""
        columns = self._columns
        fields = ("id", "task", "text", "level")
        name = {key: present.get(key, getattr(columns, key)) for key in fields}
        odd = [code for code, task in enumerate(rows.task.values) if not TASK_PATTERN.fullmatch(task)]
        no_id = np.full(len(rows), "id" not in present)
        no_level = np.isnan(rows.level) & np.isnan(rows.score)
        number = f"no number in {name['level']}"
        if columns.score != name["level"]:
            number += f" or {columns.score}" if columns.score else ", counted from 0"
        # A cell that is no task's id may be a text, which must not be shown.
        not_an_id = "is not a task's id (letters, digits, . _ -); name another column with --column task=NAME"
        faults = {
            "id": {f"no {name['id']}": no_id},
            "task": {
                f"no {name['task']}": rows.task.code < 0,
                f"{name['task']} {not_an_id}": np.isin(rows.task.code, odd),
            },
            "text": {f"no {name['text']}": rows.text == np.array(None)},
            "level": {
                f"{number}; words need [levels] in columns.toml": no_level,
                "probability is not a number above 0 and at most 1": (rows.probability <= 0) | (rows.probability > 1),
            },
        }
        for key in self._needed:
            for why, mask in faults[key].items():
                yield key, mask, why
        if columns.predicted:
            yield "probabilities", rows.probabilities == np.array(None), "probabilities is not a list of numbers"


def _fill(cells: dict[str, list[Any]], lines: int) -> None:
    """Fill columns that some lines do not have with blanks, up to a number of lines."""
    for column in cells.values():
        column.extend([None] * (lines - len(column)))


def _as_rows(cells: dict[str, list[Any]], file: str, numbers: Sequence[int | None]) -> Rows:
    """Return lines as rows."""
    level, bad = _numbers(cells["level"])
    second, bad_second = _numbers(cells["second"])
    score, bad_score = _numbers(cells["score"])
    probability, bad_probability = _numbers(cells["probability"])
    names = [cell is None or not str(cell).strip() for cell in cells["id"]]
    ids = [
        f"{Path(file).name}:{line or 0}" if not_named else str(cell)
        for cell, not_named, line in zip(cells["id"], names, numbers, strict=True)
    ]
    shares = [tuple(cell) if _is_numbers(cell) else None for cell in cells["probabilities"]]
    columns = {
        "id": _objects(ids),
        "has_id": ~np.array(names, bool),
        "text": _objects([cell if isinstance(cell, str) else None for cell in cells["text"]]),
        "level": level,
        "second": second,
        "score": score,
        "probability": np.where(bad_probability, 0.0, probability),
        "no_number": (bad | bad_score) & np.isnan(level) & np.isnan(score),
        "no_level": np.zeros(len(ids), bool),
        "no_second": bad_second,
        "probabilities": _objects(shares),
        "text_check": _objects([cell_text(cell) for cell in cells["text_check"]]),
        "file": Codes((file,), np.zeros(len(ids), np.int32)),
        "line": np.array([line or 0 for line in numbers], np.int64),
    }
    for name in cells.keys() - {*_CELLS}:
        is_absent = cells[name].count(None) == len(ids)
        texts = cells[name] if is_absent else [cell_text(cell) for cell in cells[name]]
        columns[name] = encode(pa.array(texts, "string"))
    return Rows(columns)


def _is_numbers(cell: Any) -> bool:
    return isinstance(cell, (list, tuple)) and all(type(share) in (int, float) and not share > _MOST for share in cell)


def _objects(values: Sequence[Any]) -> Any:
    column = np.empty(len(values), object)
    column[:] = values
    return column


def _numbers(cells: Sequence[object]) -> tuple[Floats, Mask]:
    """Return the number in each cell, NaN where there is none, and which cells have something else."""
    values = np.full(len(cells), nan)
    wrong = np.zeros(len(cells), bool)
    for place, cell in enumerate(cells):
        if isinstance(cell, str):
            cell = cell.strip()
            cell = cell.replace(",", ".") if _COMMA.fullmatch(cell) else cell
        if cell in (None, "") or cell != cell:
            continue
        try:
            number = float(cell)  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError):
            number = _MOST
        if abs(number) < _MOST:
            values[place] = number
        else:
            wrong[place] = True
    return values, wrong


def _one_row_each(lines: Rows) -> Rows:
    """Return one row for each response. Raises InputError where lines contradict each other."""
    lines = _with_administrations(lines)
    responses = _Responses(lines)
    reasons = by_reason([responses.add(place) for place in range(len(lines))])
    rows = lines.plus(second=np.array(responses.second, np.float64)).where([*responses.rows.values()])
    return rows.noting({reason: lines.names(mask) for reason, mask in reasons.items()})


def _with_administrations(lines: Rows) -> Rows:
    """Return the lines; one without an administration gets that of a line with its id and text that it agrees with.

    The desk names administrations, and files of labels often do not.
    """
    names = lines.administration.texts()
    if all(names) or not any(names):
        return lines
    texts = [text and same_text(text) for text in lines.text]
    responses = [*zip(lines.task.texts(), lines.id.tolist(), texts, strict=True)]
    named: dict[tuple[Any, ...], list[int]] = {}
    for place, response in enumerate(responses):
        if names[place] and response[2]:
            named.setdefault(response, []).append(place)
    levels = [lines[column].tolist() for column in _LEVELS]
    for place, response in enumerate(responses):
        if not names[place]:
            same = (names[other] for other in named.get(response, ()) if _agree(levels, place, other))
            names[place] = next(same, None)
    return lines.plus(administration=encode(pa.array(names, "string")))


def _agree(columns: Iterable[Sequence[float]], line: int, other: int) -> bool:
    """Whether two lines have no different levels, points or second levels. columns: those of `_LEVELS`."""
    pairs = ((column[line], column[other]) for column in columns)
    return all(x == y or isnan(x) or isnan(y) for x, y in pairs)


class _Responses:
    """The lines that are rows, by the names of their responses, and second levels of all lines."""

    def __init__(self, lines: Rows) -> None:
        self.rows: dict[Key, int] = {}
        self.second = lines.second.tolist()
        self._lines, self._keys = lines, lines.response_keys()
        self._rater = [rater or "" for rater in lines.rater.texts()]
        self._level, self._score = lines.level.tolist(), lines.score.tolist()
        self._raters: dict[Key, dict[str, int]] = {}

    def add(self, row: int) -> str:
        """Take a line; return why it is not a response of its own, empty if it is one. Raises InputError."""
        key, rater = self._keys[row], self._rater[row]
        first = self.rows.setdefault(key, row)
        raters = self._raters.setdefault(key, {})
        if rater and "" in raters and rater not in raters:
            raters[rater] = raters.pop("")  # a line without a rater may be anyone's
        before = raters.setdefault(rater, row) if rater or not raters else next(iter(raters.values()))
        if first == row:
            return ""
        if not self._same_text(first, row):
            raise self._contradiction(first, row, "text")
        if not self._has_level(first) and self._has_level(row):
            self.rows[key] = raters[rater] = row
        elif before == row and self._has_level(row):
            if not isnan(self.second[first]):
                return THIRD_RATER
            second = self._score[row] if isnan(self._level[first]) else self._level[row]
            if isnan(second):
                return OTHER_KIND
            self.second[first] = second
            return SECOND_RATER
        elif not _agree((self._level, self._score, self.second), before, row):
            raise self._contradiction(before, row, "level")
        elif isnan(self.second[first]):
            self.second[first] = self.second[row]
        return REPEATED

    def _has_level(self, row: int) -> bool:
        return not (isnan(self._level[row]) and isnan(self._score[row]))

    def _same_text(self, row: int, other: int) -> bool:
        """Whether two lines have no different texts."""
        first, second = self._lines.text[row], self._lines.text[other]
        return first is None or second is None or same_text(first) == same_text(second)

    def _contradiction(self, first: int, row: int, what: str) -> InputError:
        task, name, _ = self._keys[row]
        of_task = f" of {task}" if task else ""
        before, where = (self._lines.place(of) for of in (first, row))
        return InputError(
            f"{where}: id {name[:80]!r}{of_task} has another {what} than in {before}. If these are two responses, "
            "prefix the ids of one file, or add a column administration"
        )
