"""The names of columns in files of labelled rows, as `--column` and `columns.toml` give them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scoremux_files.errors import InputError
from scoremux_files.rows.readers import CHOSEN_BY
from scoremux_files.rows.row_layout import column_names, columns_beside

_MACHINE_COLUMNS = {"version", "arithmetic"}, {"decided_by", "machine_level"}
"""Outputs of `score` and `sample` have the first two, final scores the others: levels and scores are the machine's."""


@dataclass(frozen=True)
class LabelColumns:
    """Names of the columns in files of labelled rows; a column whose name is empty is not read.

    Attributes:
        id: Of ids; a row without one is named FILE:LINE.
        administration: Of the part of a key that differs where ids are equal: a year, a school, a file.
        score: Of a person's points, for rows without a level; their second level is points, too.
        second: Of a second person's level or points.
        cluster: Of what rows share beside their student: a class, a school, a district.
        rater: Of who gave the level; rows of one response by two raters become one row.
        groups: Columns to keep, such as schools.
        levels: Words in place of levels, and the levels that they stand for.
        traits: The traits of items, and the columns with their points: a row with such columns is read as a row of the
            task ITEM.TRAIT for each trait that it has points of.
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
    cluster: str = "cluster"
    split: str = "split"
    groups: Sequence[str] = ()
    levels: Mapping[str, int] = field(default_factory=dict)
    traits: Mapping[str, str] = field(default_factory=dict)
    own_names: bool = False
    predicted: bool = False

    def named(self) -> list[str]:
        """Return the fields whose column was named."""
        return [key for key in _KEYS if getattr(self, key) not in ("", getattr(LABEL_COLUMNS, key))]

    def present(self, file: Path, names: Collection[str]) -> dict[str, str]:
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


_KEYS = ("id", "task", "administration", "text", "level", "score", "second", "rater", "student", "cluster", "split")
LABEL_COLUMNS = LabelColumns()


def label_columns(options: Sequence[str] | None, *keys: str, group: str = "", data: Path | None = None) -> LabelColumns:
    """Return the columns that `--column` names, or `columns.toml` beside the data.

    Args:
        keys: Those of the command, beside the ones that all of them have.
        group: The key of columns to keep, empty for none.
    """
    names = {
        key: getattr(LABEL_COLUMNS, key)
        for key in ("id", "task", "administration", "text", "student", "cluster", *keys)
    }
    chosen = column_names(options, data, **names, **({group: ()} if group else {}))
    tables = {name: columns_beside(data).get(name, {}) for name in ("levels", "traits")}
    if len({*tables["traits"].values()}) < len(tables["traits"]):
        raise InputError("columns.toml: [traits] names one column for two traits")
    return LabelColumns(groups=chosen.pop(group, ()), **tables, **chosen)
