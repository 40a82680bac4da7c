"""Labelled rows for a calibration, with the predictions of `scoremux train` for those that it held out."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from operator import attrgetter
from pathlib import Path

from scoremux_evidence.rows.label_table import LabelTable, LeftOutLine, common_key, read_labels
from scoremux_evidence.rows.labelled_row import NO_LEVEL, NO_SECOND, Key, LabelColumns, LabelledRow
from scoremux_files.errors import InputError
from scoremux_files.rows.readers import text_check

UNCHOSEN = "validity papers, or read-behind without a probability: they stand for no other rows"
"""Why rows of a desk's file are left out."""

Scales = Mapping[str, Sequence[float]]
_PREDICTIONS = LabelColumns(
    text="",
    second="second_level",
    rater="",
    student="student",
    predicted=True,
)


def read_labelled(
    files: Sequence[Path],
    predictions: Path | None,
    columns: LabelColumns,
    scales: Scales,
) -> LabelTable:
    """Return the labelled rows of files and predictions; a row that is in both has the prediction's probabilities.

    Args:
        predictions: Those of training for rows that it held out, None for none.
        columns: Of the files; the column second counts where no other is named.
        scales: The points of each level, by task.

    Raises:
        InputError: A row cannot be used, or rows contradict each other.
    """
    table = read_labels(
        files,
        replace(columns, second=columns.second or "second"),
        ("id", "task", "text", "level"),
    )
    table.require(columns)
    of_training = read_labels(
        [predictions] if predictions else [],
        _PREDICTIONS,
        ("id", "task", "level"),
    )
    key = common_key(table, of_training) if table.rows else attrgetter("key")
    predicted: dict[Key, LabelledRow] = {}
    for row in of_training.rows:
        if predicted.setdefault(key(row), row) is not row:
            raise InputError(
                f"{row.where}: id {row.id[:80]!r} of {row.task} is in several administrations; add the column "
                "administration to the labelled files"
            )
    # Of rows with one name, from several administrations, the prediction is that of the row that has its text.
    for row in sorted(
        table.rows, key=lambda row: not (one := predicted.get(key(row))) or one.text_check != text_check(row.response)
    ):
        if row.task in scales:
            row.take_level(scales[row.task])
        if NO_SECOND in row.remarks:
            raise InputError(f"{row.where}: its second level is not a number, or not one of its task's")
        prediction = predicted.pop(key(row), None)
        if prediction is not None and NO_LEVEL not in row.remarks:
            table.relabelled += _take_prediction(row, prediction)
    rows = [*table.rows, *predicted.values()]
    table.rows = [row for row in rows if not _why_left_out(row)]
    table.left_out += [LeftOutLine(row.where, None, reason) for row in rows if (reason := _why_left_out(row))]
    return table


def _why_left_out(row: LabelledRow) -> str:
    if NO_LEVEL in row.remarks:
        return NO_LEVEL
    return UNCHOSEN if math.isnan(row.weight) else ""


def _take_prediction(row: LabelledRow, prediction: LabelledRow) -> bool:
    """Give a row the prediction of training; return whether it had other labels then. Raises InputError."""
    if prediction.text_check not in (None, text_check(row.response)):
        raise InputError(
            f"{row.where}: {prediction.where} has another text for id {row.id[:80]!r} of {row.task}. If these are two "
            "responses, tell them apart by their ids or by a column administration, and train again"
        )
    seconds = {row.second, prediction.second} - {None}  # where one has none, that of the other counts
    row.probabilities = prediction.probabilities
    row.adapter = prediction.adapter
    row.seen_by_start = prediction.seen_by_start
    row.second = prediction.second if row.second is None else row.second
    row.student = prediction.student if row.student is None else row.student
    if row.chosen_by is None and row.weight == 1:
        row.chosen_by = prediction.chosen_by
        row.weight = prediction.weight
    return prediction.level != row.level or len(seconds) > 1
