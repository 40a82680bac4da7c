"""Files of labelled rows → one table: a row for each response, and each line that was left out, with the reason.

A response is named by task, id and administration. Lines of one name with different raters are one row, equal lines
count once, and lines that contradict each other are refused.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from math import isnan
from pathlib import Path

import numpy as np

from scoremux_evidence.rows.labelled_row import (
    LABEL_COLUMNS,
    NO_NUMBER,
    Key,
    LabelColumns,
    LabelledRow,
    labelled_row,
    problem_of,
)
from scoremux_evidence.rows.weights import Sample, sample_of
from scoremux_files.errors import InputError, first_of
from scoremux_files.rows.readers import files_of, read_records, same_text
from scoremux_files.rows.row_layout import RowLayout, list_columns

_MOST_WORDS, _WORD = 12, re.compile(r"\w[\w -]{0,20}")
"""Words are those of a scale, and no texts, where they are few and each comes again."""
REPEATED = "given twice, with the same text and levels"
SECOND_RATER = "given by a second rater, whose level counts beside the first"
OTHER_KIND = "given by a second rater, whose points do not count beside a level, nor a level beside points"
THIRD_RATER = "given by a third rater; a response counts with the levels of two"


@dataclass(frozen=True)
class LeftOutLine:
    """A line that is not a row of the table, and why."""

    file: str
    line: int | None
    reason: str

    @classmethod
    def of(cls, row: LabelledRow, reason: str) -> "LeftOutLine":
        """Return the line of a row."""
        file, _, line = row.where.rpartition(", line ")
        return cls(Path(file).name, int(line), reason)

    def __str__(self) -> str:
        return f"{self.file}{'' if self.line is None else f', line {self.line}'}: {self.reason}"


@dataclass
class LabelTable:
    """The rows of labelled files.

    Attributes:
        left_out: The lines that are not rows of their own.
        relabelled: Rows that had another level or second level when training predicted them.
        present: Fields of `LabelColumns` that some file has.
        names: The columns of all files.
        words: Cells in place of levels that are no numbers, and how often; of the first few.
    """

    rows: list[LabelledRow] = field(default_factory=list)
    left_out: list[LeftOutLine] = field(default_factory=list)
    present: set[str] = field(default_factory=set)
    names: dict[str, None] = field(default_factory=dict)
    words: Counter[str] = field(default_factory=Counter)
    paths: Sequence[str] = ()
    relabelled: int = 0

    def require(self, columns: LabelColumns, *keys: str) -> None:
        """Raise InputError if the files lack a column that was named, or that of one of `keys`."""
        absent = [getattr(columns, key) for key in (*keys, *columns.named()) if key not in self.present]
        absent += [name for name in columns.groups if name not in self.names]
        if absent and self.names:
            raise InputError(f"{first_of(self.paths)} has no column {absent[0]}{column_hint(self.names)}")

    def words_hint(self, columns: LabelColumns) -> str:
        """Return which words are in place of levels and how to map them; empty where they may be texts."""
        few = len(self.words) < _MOST_WORDS and all(times > 1 and _WORD.fullmatch(w) for w, times in self.words.items())
        if not self.words or not few:
            return ""
        lines = ", ".join(f"{json.dumps(word, ensure_ascii=False)} = …" for word in sorted(self.words))
        return f"{columns.level} has words; under [levels] of columns.toml beside the file, give their levels: {lines}"

    def by_task(self) -> dict[str, list[LabelledRow]]:
        tasks: dict[str, list[LabelledRow]] = {}
        for row in self.rows:
            tasks.setdefault(row.task, []).append(row)
        return tasks

    def sample(self) -> Sample:
        """Return how the rows were chosen to be read."""
        return sample_of(
            [row.chosen_by for row in self.rows],
            np.array([row.probability for row in self.rows]),
        )


def read_labels(
    paths: Sequence[Path],
    columns: LabelColumns = LABEL_COLUMNS,
    needed: Collection[str] = (),
    *,
    strict: bool = True,
) -> LabelTable:
    """Read labelled rows of .csv, .jsonl and .parquet files, of exports of the desk, and of folders of a job.

    Args:
        needed: Fields of `LabelColumns` that each row must have.
        strict: Refuse a line that cannot be used, unless its level is blank; otherwise it is left out.

    Raises:
        InputError: A file cannot be read, a line cannot be used, or lines contradict each other.
    """
    table = LabelTable(paths=[*map(str, paths)])
    responses = _Responses()
    for file in (file for path in paths for file in files_of(path)):
        for line, row, problem in _rows(
            file,
            columns,
            needed,
            table,
            strict,
        ):
            if reason := problem or responses.add(row):
                table.left_out.append(LeftOutLine(file.name, line, reason))
    table.rows = list(responses.rows.values())
    for row, weight in zip(table.rows, table.sample().weight.tolist(), strict=True):
        row.weight = weight
    return table


def _rows(
    file: Path, columns: LabelColumns, needed: Collection[str], table: LabelTable, strict: bool
) -> Iterator[tuple[int | None, LabelledRow, str]]:
    """Yield line, row, and why it cannot be used, but no blank lines; add the columns of the file to the table's."""
    names: Collection[str] = ()
    present = dict[str, str]()
    fields = set[str]()
    for record in read_records(file, RowLayout(columns.id, text=columns.text, every_column=True)):
        if not record.reason and record.values.keys() != names:
            names = record.values.keys()
            present = columns.present(file, names)
            fields |= present.keys()
            table.names |= dict.fromkeys(names)
        if record.reason or any(cell not in (None, "") for cell in record.values.values()):
            row = labelled_row(
                file,
                record.line or 0,
                record.values,
                present,
                columns,
            )
            if NO_NUMBER in row.remarks and len(table.words) < _MOST_WORDS:
                table.words[str(record.values.get(present.get("level", ""), "")).strip()] += 1
            problem = record.reason or problem_of(row, needed, present, columns)
            more = record.reason or NO_NUMBER in row.remarks
            if (
                problem
                and strict
                and (
                    more
                    or problem_of(
                        row,
                        {*needed} - {"level"},
                        present,
                        columns,
                    )
                )
            ):
                hint = column_hint(table.names) if problem.startswith("no ") else ""
                raise InputError(f"{file}{'' if record.line is None else f', line {record.line}'}: {problem}{hint}")
            yield record.line, row, problem
    table.present |= fields
    if strict and names and "level" in needed and not fields & {"level", "score"}:
        raise InputError(f"{file} has no column {columns.level}{column_hint(table.names)}")


def column_hint(names: Iterable[str]) -> str:
    """Return the hint that follows the name of a missing column. names: the columns that there are."""
    return f" (its columns: {list_columns([*names])}); name it with --column KEY=NAME"


def common_key(*tables: LabelTable) -> Callable[[LabelledRow], Key]:
    """Return the key of a row in all of some tables: without its administration where one of them has none."""
    if all("administration" in table.present for table in tables):
        return lambda row: row.key
    return lambda row: (row.task, row.id, "")


class _Responses:
    """Rows by the names of their responses."""

    def __init__(self) -> None:
        self.rows: dict[Key, LabelledRow] = {}
        self._raters: dict[Key, dict[str, LabelledRow]] = {}
        self._keys: dict[tuple[str, str], list[Key]] = {}

    def add(self, row: LabelledRow) -> str:
        """Take a row; return why it is not a response of its own, empty if it is one. Raises InputError."""
        if (row.task, row.id) not in self._keys:
            self._keys[row.task, row.id], self.rows[row.key] = [row.key], row
            return ""
        key = self._key_of(row)
        first = self.rows.setdefault(key, row)
        raters = self._raters.setdefault(key, {first.rater: first})
        if row.rater and "" in raters and row.rater not in raters:
            raters[row.rater] = raters.pop("")  # a line without a rater may be anyone's
        before = raters.setdefault(row.rater, row) if row.rater or not raters else next(iter(raters.values()))
        if first is row:
            return ""
        if None not in (first.text, row.text) and same_text(first.response) != same_text(row.response):
            raise _contradiction(first, row, "text")
        if not first.has_level and row.has_level:
            self.rows[key] = raters[row.rater] = row
        elif before is row and row.has_level:
            if first.second is not None:
                return THIRD_RATER
            second = row.score if isnan(first.level) else row.level
            if isnan(second):
                return OTHER_KIND
            first.second = second
            return SECOND_RATER
        elif any(x != y for x, y in _both(before, row)):
            raise _contradiction(before, row, "level")
        elif first.second is None:
            first.second = row.second
        return REPEATED

    def _key_of(self, row: LabelledRow) -> Key:
        """Return the name of a row's response.

        A line without an administration is the response of one that has its id, text and levels, and the reverse: the
        desk names administrations, and files of labels often do not.
        """
        keys = self._keys.setdefault((row.task, row.id), [])
        for key in keys if row.key not in keys and row.text is not None else ():
            other = self.rows[key]
            is_open = not row.administration or not key[2]
            agree = all(x == y for x, y in _both(other, row)) and other.text is not None
            if not (is_open and agree and same_text(other.response) == same_text(row.response)):
                continue
            if row.administration:
                keys[keys.index(key)], other.administration = row.key, row.administration
                self.rows[row.key] = self.rows.pop(key)
                if key in self._raters:
                    self._raters[row.key] = self._raters.pop(key)
                return row.key
            return key
        if row.key not in keys:
            keys.append(row.key)
        return row.key


def _both(before: LabelledRow, row: LabelledRow) -> list[tuple[float, float]]:
    """Return the levels, points and second levels that both rows have."""
    pairs = ((before.level, row.level), (before.score, row.score), (before.second, row.second))
    return [(x, y) for x, y in pairs if x is not None and y is not None and not (isnan(x) or isnan(y))]


def _contradiction(first: LabelledRow, row: LabelledRow, what: str) -> InputError:
    of_task = f" of {row.task}" if row.task else ""
    return InputError(
        f"{row.where}: id {row.id[:80]!r}{of_task} has another {what} than in {first.where}. If these are two "
        "responses, prefix the ids of one file, or add a column administration"
    )
