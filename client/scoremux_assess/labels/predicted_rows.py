"""Labelled rows for a calibration, with what `scoremux train` predicted of those that it held out."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from scoremux_assess.labels.label_table import common_key, read_labels
from scoremux_assess.labels.labelled_row import LabelColumns, LabelledRow
from scoremux_files.errors import InputError
from scoremux_files.rows.readers import text_check

UNCHOSEN = "validity papers, or read-behind without a probability: they stand for no other rows"
"""Why rows of a desk's file are left out."""

_PREDICTIONS = LabelColumns(text="", score="", second="second_level", rater="", student="student", predicted=True)


@dataclass
class LabelledRows:
    """The rows of a calibration.

    Attributes:
        rows: One that is in a file and in the predictions has the labels of the file.
        relabelled: Rows whose level or second level in the predictions was another.
        left_out: Lines and rows that no figure may rest on, by reason.
    """

    rows: list[LabelledRow] = field(default_factory=list)
    relabelled: int = 0
    left_out: Counter[str] = field(default_factory=Counter)


def read_labelled(files: Sequence[Path], predictions: Path | None, columns: LabelColumns) -> LabelledRows:
    """Return the labelled rows of files and predictions; a row that is in both has the prediction's probabilities.

    Args:
        predictions: What training predicted of rows that it held out, None for none.
        columns: Of the files; the column second counts where no other is named.

    Raises:
        InputError: A row cannot be used, or rows contradict each other.
    """
    read = replace(columns, score="", second=columns.second or "second")
    table = read_labels(files, read, ("id", "task", "text", "level"))
    table.require(columns)
    of_training = read_labels([predictions] if predictions else [], _PREDICTIONS, ("id", "task", "level"))
    key = common_key(table, of_training)
    predicted = {key(row): row for row in of_training.rows}
    labelled = LabelledRows(left_out=Counter(line.reason for line in table.left_out))
    for row in table.rows:
        if row.remarks:
            raise InputError(f"{row.where}: its second level is not a number")
        prediction = predicted.pop(key(row), None)
        if prediction is not None:
            labelled.relabelled += _take_prediction(row, prediction)
    for row in (*table.rows, *predicted.values()):
        if math.isnan(row.weight):
            labelled.left_out[UNCHOSEN] += 1
        else:
            labelled.rows.append(row)
    return labelled


def _take_prediction(row: LabelledRow, prediction: LabelledRow) -> bool:
    """Give a row what training predicted of it; return whether it had other labels then. Raises InputError."""
    if prediction.text_check not in (None, text_check(row.text or "")):
        raise InputError(
            f"{row.where}: {prediction.where} has another text for id {row.id[:80]!r} of {row.task}. If these are two "
            "responses, tell them apart by their ids or by a column administration, and train again"
        )
    seconds = {row.second, prediction.second} - {None}  # where one has none, that of the other counts
    row.probabilities, row.adapter, row.seen = prediction.probabilities, prediction.adapter, prediction.seen
    row.second = prediction.second if row.second is None else row.second
    row.student = prediction.student if row.student is None else row.student
    if row.chosen_by is None and row.weight == 1:
        row.chosen_by, row.weight = prediction.chosen_by, prediction.weight
    return prediction.level != row.level or len(seconds) > 1
