"""The layout of a file of rows: its columns, the size of parts, and positions in the file."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from scoremux_files.errors import InputError, first_of

Json = dict[str, Any]
"""A JSON object, such as a line of a journal."""

Row = Json
_PLAIN_NAME = re.compile(r"\w[\w.-]{0,39}")
_MOST_NAMES, _LONGEST_NAME = 20, 60
_HEADER_WORDS = re.compile(
    r"[\W_]*((id|task|item|question|prompt|text|answer|response|level|score|grade|rating|rater|student|pupil)s?[\W_]*)+"
)
"""A name that consists of such words shows that a line is a header, not a student's."""

COLUMN_HELP = "How the file calls a column, beside what columns.toml in its folder says; repeatable. KEY is id"
LABELS_HELP = f"{COLUMN_HELP}, administration (tells equal ids apart), rater (two people's rows of one response)"
"""How the help of `--column` begins, of commands that read labels; the command's other keys follow."""


COLUMNS = "columns.toml"
"""A file beside the data that names columns once for all commands: `KEY = "NAME"`, `[levels]` for words, and `[traits]`
for the columns that have the points of an item's traits.
"""
_ALL_KEYS = {
    *("id", "task", "text", "level", "score", "second", "rater", "student", "cluster", "administration"),
    *("group", "keep"),
}


def columns_beside(data: Path | None) -> dict[str, Any]:
    """Return the keys of `columns.toml` in the folder of a file, empty without one. Raises InputError."""
    from scoremux_files.settings import read_toml

    file = (data or Path()).parent / COLUMNS
    values = read_toml(file) if file.is_file() else {}
    if unknown := sorted(values.keys() - _ALL_KEYS - {"levels", "traits"}):
        keys = ", ".join(sorted({*_ALL_KEYS, "levels"}))
        raise InputError(f"{file}: unknown key {unknown[0]}; the keys are {keys} and traits")
    traits = values.get("traits", {})
    if not isinstance(traits, dict) or not all(isinstance(name, str) for name in traits.values()):
        raise InputError(f'{file}: traits: under [traits], give TRAIT = "COLUMN"')
    wrong = [key for key in values.keys() & _ALL_KEYS if not isinstance(values[key], (str, list))]
    levels = values.get("levels", {})
    if wrong or not (isinstance(levels, dict) and all(type(n) is int and n >= 0 for n in levels.values())):
        raise InputError(f'{file}: {first_of(wrong) or "levels"}: give KEY = "NAME", and under [levels] WORD = LEVEL')
    return values


def column_names(options: Sequence[str] | None, data: Path | None = None, **names: Any) -> dict[str, Any]:
    """Return the names of columns by key, as `--column KEY=NAME` gives them; KEY alone stands for KEY=KEY.

    Args:
        data: The first file of the command: names in `columns.toml` beside it count where no option does, unless the
            file lacks them and has the name that counts otherwise.
        names: The keys of the command, with the name that counts if none is given. A key that begins with a tuple may
            have several names.

    Raises:
        InputError: A value is not KEY=NAME, or has another key.
    """
    written = {key: name for key, name in columns_beside(data).items() if key in names}
    if written and data and data.is_file():
        there = _names_in(data)
        written = {key: name for key, name in written.items() if name in there or names[key] not in there}
    chosen = dict(names) | {
        key: ((*name,) if isinstance(name, list) else (name,)) if isinstance(names[key], tuple) else name
        for key, name in written.items()
    }
    for value in options or ():
        key, equals, name = value.partition("=")
        name = name if equals else key
        if key not in names or not name:
            raise InputError(f"--column {value[:80]!r}: give KEY=NAME, where KEY is one of {', '.join(names)}")
        chosen[key] = (*chosen[key], name) if isinstance(names[key], tuple) else name
    if chosen.get("text", "") in [name for name in (chosen.get("id"), chosen.get("task")) if name]:
        raise InputError("--column: texts and ids are in one column; messages show ids, so name another column")
    return chosen


def _names_in(data: Path) -> list[str]:
    """Return the columns of a file's first row."""
    from scoremux_files.rows.readers import read_records

    first = next(iter(read_records(data, RowLayout(every_column=True))), None)
    return list(first.values) if first else []


def renamed_by(data: Path, *columns: str) -> str:
    """Return what follows a message that names missing columns: which file beside the data named one of them."""
    names = [name for name in columns_beside(data).values() if name in columns]
    return f"; {data.parent / COLUMNS} says {names[0]}" if names else ""


def list_columns(names: Sequence[str]) -> str:
    """Return names of columns for a message, in quotes unless they are plain words.

    In a file without a header, the first line is a student's: unless some name is one of a header's, what may be a text
    is counted, not shown.
    """
    is_header = any(_HEADER_WORDS.fullmatch(name.lower()) for name in names)
    shown = []
    for name in names:
        if _PLAIN_NAME.fullmatch(name):
            shown.append(name)
        elif _PLAIN_NAME.fullmatch(name.strip(" ")) or (is_header and 0 < len(name) <= _LONGEST_NAME):
            shown.append(repr(name))
    more = len(names) - len(shown[:_MOST_NAMES])
    listed = [*shown[:_MOST_NAMES], f"{more} more"] if more else shown
    return ", ".join(listed) or "none"


@dataclass(frozen=True)
class RowLayout:
    """Columns of the input, and how it is divided into parts.

    Attributes:
        part_rows: Most rows of a part.
        part_bytes: Bytes of texts in a part, after which the next part begins.
        line_bytes: Longest line or CSV record that is read.
        every_column: Read all columns, whether or not task and text are there.
        student: Name of the column of who wrote the response, None without one.
        keep: Names of further columns that the output gets, as text.
    """

    id: str = "id"
    task: str = "task"
    text: str = "text"
    part_rows: int = 16_384
    part_bytes: int = 16 << 20
    line_bytes: int = 4 << 20
    every_column: bool = False
    student: str | None = None
    keep: list[str] | None = None

    @property
    def needed(self) -> tuple[str, ...]:
        """Columns that must be there."""
        return () if self.every_column else (self.task, self.text)

    @property
    def named(self) -> tuple[str, ...]:
        """Columns that are read, unless all are."""
        more = [] if self.student is None else [self.student]
        return (self.id, self.task, self.text, *more, *(self.keep or ()))

    def refusal(self, names: Sequence[str]) -> str:
        """Return why columns of these names cannot be read, empty if they can."""
        options = {self.task: "--column task=NAME", self.text: "--column text=NAME"}
        options |= dict.fromkeys(self.keep or (), "--keep")
        options |= {self.student: "--column student=NAME"} if self.student else {}
        for name, option in {}.items() if self.every_column else options.items():
            if names.count(name) > 1:
                return f"more than one column {name}"
            if name not in names:
                return f"no column {name} (its columns: {list_columns(names)}); say which one with {option}"
        return ""


class ReadPosition(NamedTuple):
    """Where a reader starts in a file.

    Attributes:
        offset: Byte at which the next line begins; for Parquet the number of the next row.
        line: Lines (Parquet: rows) of this file that were read.
        row: Rows of the whole job that were read, rejected ones included.
    """

    offset: int = 0
    line: int = 0
    row: int = 0


FILE_START = ReadPosition()


class Record(NamedTuple):
    """One row of a file, or why it cannot be read; the reason never quotes the row.

    Attributes:
        line: Number of the line, or row of Parquet, from 1; None for the file as a whole.
        after: Where the next record begins.
        values: Cells by column, empty if the row cannot be read.
        reason: Why the row cannot be read, empty if it can.
    """

    line: int | None
    after: ReadPosition
    values: Row
    reason: str = ""
