"""Labelled rows for a calibration: files of responses with human levels, and what `scoremux train` predicted."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from scoremux_assess.labels.weights import sample_of
from scoremux_client.errors import InputError
from scoremux_files.rows.readers import (
    decision_of,
    desk_row,
    id_at_first,
    read_rows,
    refuse_machine_levels,
    repeated_ids_remedy,
    same_text,
    student_of,
    text_check,
    whole_number,
)
from scoremux_files.rows.row_layout import list_columns

REPEATED = "given twice, with the same text and levels"
"""Why a row that two files have counts once."""

_SUM_WITHIN = 1e-3
_Value = TypeVar("_Value")

UNCHOSEN = "validity papers, or read-behind without a probability: they stand for no other rows"
"""Why rows of a desk's file are left out."""


@dataclass(frozen=True)
class LabelledRow:
    """A response with the level that a human gave it.

    Attributes:
        id: Of the response, within its task.
        task: The task's id.
        level: The human's.
        second: That of a second human, None where there is none.
        where: Its file and row, for messages.
        text: None where only a prediction is known.
        probabilities: Those of an adapter that was not fitted to the row; None: the live version scores it.
        student: Who wrote it, None where that is not known.
        weight: 1 / the probability with which it was chosen to be read.
        chosen_by: How it was chosen, see `weights`; None where that is not known.
        version: The one that scored it before it was read, None where that is not known.
        adapter: The digest of the adapter that its prediction belongs to; None where it has none, or does not say.
        seen: Whether what its adapter began from was trained on its task, so that the prediction is too good.
        decision: See `readers.decision_of`.
        text_check: Of the text that its prediction is of (`readers.text_check`), None where that is not known.
    """

    id: str
    task: str
    level: int
    second: int | None
    where: str
    text: str | None = None
    probabilities: Sequence[float] | None = None
    student: str | None = None
    weight: float = 1.0
    chosen_by: str | None = None
    version: str | None = None
    adapter: str | None = None
    seen: bool = False
    decision: str | None = None
    text_check: str | None = None

    def check(self, levels: int) -> None:
        """Raise InputError if a level or the probabilities are not those of a task with so many levels."""
        for value in (self.level, self.second):
            if value is not None and not 0 <= value < levels:
                raise InputError(f"{self.where}: level {value}, but {self.task} has levels 0 to {levels - 1}")
        if self.probabilities is None:
            return
        if len(self.probabilities) != levels:
            count = len(self.probabilities)
            raise InputError(f"{self.where}: {count} probabilities, but {self.task} has {levels} levels")
        if not (min(self.probabilities) >= 0 and abs(sum(self.probabilities) - 1) <= _SUM_WITHIN):
            raise InputError(f"{self.where}: the probabilities are not numbers from 0 to 1 that sum to 1")


@dataclass(frozen=True)
class LabelColumns:
    """Names of the columns of a file of labelled responses."""

    id: str = "id"
    task: str = "task"
    text: str = "text"
    level: str = "level"
    second: str = "second"
    student: str | None = None


@dataclass
class LabelledRows:
    """What files of labelled responses hold.

    Attributes:
        rows: The labelled rows; one that is in a file and in the predictions has the labels of the file.
        relabelled: Rows whose level or second level in the predictions was another.
        left_out: Rows that no figure may rest on, by reason.
    """

    rows: list[LabelledRow] = field(default_factory=list)
    relabelled: int = 0
    left_out: Counter[str] = field(default_factory=Counter)

    def add(self, row: LabelledRow) -> None:
        """Take a row, unless it stands for no others."""
        if math.isnan(row.weight):
            self.left_out[UNCHOSEN] += 1
        else:
            self.rows.append(row)


def read_labelled(files: Sequence[Path], predictions: Path | None, columns: LabelColumns) -> LabelledRows:
    """Return the labelled rows of files and predictions; a row that is in both has the prediction's probabilities.

    Args:
        files: Labelled responses.
        predictions: What training predicted of rows that it held out, None for none.
        columns: Of the files.

    Raises:
        InputError: A row cannot be used, or is given twice.
    """
    predicted = {(row.task, row.id): row for row in _read_predictions(predictions)} if predictions else {}
    contents: dict[tuple[str, str], tuple[str, int, int | None]] = {}
    decided: dict[tuple[str, str, str], tuple[str, str]] = {}
    labelled, rows = LabelledRows(), [row for path in files for row in _read_file(path, columns)]
    decisions = {(row.task, row.id): row.decision for row in rows}
    for row in rows:
        key, content = (row.task, row.id), (same_text(row.text or ""), row.level, row.second)
        if row.decision:
            key = decided.setdefault((row.task, row.decision, content[0]), key)
        if key in contents:
            if content != contents[key]:
                remedy = repeated_ids_remedy(len(files))
                raise InputError(f"{row.where}: id {row.id[:80]!r} of {row.task} is given twice{remedy}")
            labelled.left_out[REPEATED] += 1
            continue
        contents[key] = content
        prediction = predicted.pop(key, None) or _under_earlier_id(row, decisions, predicted)
        if prediction is not None:
            if prediction.text_check not in (None, text_check(row.text or "")):
                raise InputError(
                    f"{row.where}: {prediction.where} has another text for id {row.id[:80]!r} of {row.task}; where "
                    "ids are unique within a file only, name rows by file and id, in every command "
                    "(--column id=FILE:id)"
                )
            seconds = {row.second, prediction.second} - {None}  # where one has none, that of the other counts
            labelled.relabelled += prediction.level != row.level or len(seconds) > 1
            row = replace(
                row,
                probabilities=prediction.probabilities,
                adapter=prediction.adapter,
                seen=prediction.seen,
                second=_first(row.second, prediction.second),
                student=_first(row.student, prediction.student),
            )
            if row.chosen_by is None and row.weight == 1:
                row = replace(row, chosen_by=prediction.chosen_by, weight=prediction.weight)
        labelled.add(row)
    if columns.second != LabelColumns.second and not any(second is not None for *_, second in contents.values()):
        raise InputError(f"no row has a level in the column {columns.second}, which --column second names")
    for row in predicted.values():
        labelled.add(row)
    return labelled


def _under_earlier_id(
    row: LabelledRow, decisions: Mapping[tuple[str, str], str | None], predicted: dict[tuple[str, str], LabelledRow]
) -> LabelledRow | None:
    """Take the prediction of a row that the review desk exported with another id when training read it.

    decisions: Of all rows, by task and id. Where another response has the earlier id, the prediction is that one's.
    """
    earlier = row.task, id_at_first(row.id)
    if not row.decision or decisions.get(earlier, row.decision) != row.decision or earlier not in predicted:
        return None
    return predicted.pop(earlier) if predicted[earlier].text_check == text_check(row.text or "") else None


def _read_file(path: Path, columns: LabelColumns) -> Iterator[LabelledRow]:
    ours = ("id", "task", "text", "level", "second", "student")
    named = (columns.id, columns.task, columns.text, columns.level, columns.second, columns.student)
    names = dict(zip(ours, named, strict=True))
    for number, row in enumerate(read_rows(path, columns.id, columns.text), start=1):
        refuse_machine_levels(path, row, columns.level)
        row, where = desk_row(row, names), f"{path}, row {number}"
        for name in (columns.id, columns.task, columns.text, columns.level):
            if row.get(name) is None:
                listed = f" (its columns: {list_columns(list(row))}); name it with --column KEY=NAME"
                raise InputError(f"{where}: no {name}{'' if name in row else listed}")
        level, second = whole_number(path, number, row[columns.level]), _optional(path, number, row.get(columns.second))
        if columns.student is not None and columns.student not in row:
            raise InputError(f"{where}: no {columns.student}")
        student = row.get(columns.student) if columns.student else None
        yield LabelledRow(
            *(str(row[columns.id]), str(row[columns.task]), level, second, where, str(row[columns.text])),
            student=student_of(student),
            weight=_weight(where, row),
            chosen_by=_text(row.get("chosen_by")),
            version=_text(row.get("version")),
            decision=decision_of(row),
        )


def _read_predictions(path: Path) -> Iterator[LabelledRow]:
    for number, row in enumerate(read_rows(path), start=1):
        where = f"{path}, row {number}"
        if not {"id", "task", "level", "probabilities"} <= row.keys():
            raise InputError(f"{where}: not what `scoremux train` writes; id, task, level, probabilities needed")
        probabilities = row["probabilities"]
        if not isinstance(probabilities, (list, tuple)) or not all(type(p) in (int, float) for p in probabilities):
            raise InputError(f"{where}: probabilities is not a list of numbers")
        level, second = whole_number(path, number, row["level"]), _optional(path, number, row.get("second_level"))
        yield LabelledRow(
            *(str(row["id"]), str(row["task"]), level, second, where),
            probabilities=tuple(probabilities),
            student=student_of(row.get("student")),
            weight=_weight(where, row),
            chosen_by=_text(row.get("chosen_by")),
            adapter=_text(row.get("adapter")),
            seen=row.get("seen") is True,
            text_check=_text(row.get("text_check")),
        )


def _first(one: _Value | None, other: _Value | None) -> _Value | None:
    return other if one is None else one


def _text(value: Any) -> str | None:
    return None if value in (None, "") else str(value)


def _weight(where: str, row: Mapping[str, Any]) -> float:
    """Return how many rows a row stands for, NaN if for none."""
    value = row.get("probability")
    try:
        probability = math.nan if value in (None, "") else float(value)
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: probability is not a number") from error
    return float(sample_of([row.get("chosen_by") or None], np.array([probability])).weight[0])


def _optional(path: Path, row: int, value: Any) -> int | None:
    return None if value in (None, "") else whole_number(path, row, value)
