"""Labelled rows for a calibration, with the predictions of `scoremux train` for those that it held out."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from scoremux_evidence.rows.label_columns import LabelColumns
from scoremux_evidence.rows.points import take_levels
from scoremux_evidence.rows.reading import common_key, read_labels
from scoremux_evidence.rows.rules import NO_SECOND, RELABELLED, not_a_sample, without_level
from scoremux_evidence.rows.table import Ints, Key, Mask, Rows, Values
from scoremux_files.errors import InputError
from scoremux_files.rows.codes import Codes
from scoremux_files.rows.readers import text_check

Scales = Mapping[str, Sequence[float]]
_PREDICTIONS = LabelColumns(text="", second="second_level", rater="", student="student", predicted=True)
_OF_TRAINING = ("probabilities", "adapter")
_HOW_CHOSEN = ("chosen_by", "weight", "stated")


def read_labelled(files: Sequence[Path], predictions: Path | None, columns: LabelColumns, scales: Scales) -> Rows:
    """Return the labelled rows of files and predictions; a row that is in both has the prediction's probabilities.

    Args:
        predictions: Those of training for rows that it held out, None for none.
        columns: Of the files; the column second counts where no other is named.
        scales: The points of each level, by task.

    Raises:
        InputError: A row cannot be used, or rows contradict each other.
    """
    read = replace(columns, second=columns.second or "second")
    labels = read_labels(files, read, ("id", "task", "text", "level"))
    labels.require(columns)
    trained = read_labels([predictions] if predictions else [], _PREDICTIONS, ("id", "task", "level"))
    rows = Rows.joined([labels.rows, trained.rows])
    task = np.array([*(list(scales).index(name) if name in scales else -1 for name in rows.task.values), -1])
    rows = take_levels(rows, task[rows.task.code], [*scales.values()])
    given = np.arange(len(rows)) < len(labels.rows)
    rows = rows.counting({NO_SECOND: rows.no_second})
    keys = common_key(labels, trained)(rows) if len(labels.rows) else rows.response_keys()
    pairs = _pairs(rows, keys, given)
    rows = _with_predictions(rows, pairs)
    used = np.zeros(len(rows), bool)
    used[[*pairs.values()]] = True
    rows = rows.where(~used)
    rows = rows.without(without_level(rows))
    return rows.without(not_a_sample(rows))


def _pairs(rows: Rows, keys: Sequence[Key], given: Mask) -> dict[int, int]:
    """Return the prediction of each given row that has one: the places of both. Raises InputError.

    Of given rows with one key, from several administrations, the prediction is that of the row that has its text.
    """
    predicted: dict[Key, int] = {}
    for place in np.flatnonzero(~given).tolist():
        if predicted.setdefault(keys[place], place) != place:
            raise InputError(
                f"{rows.place(place)}: id {rows.id[place][:80]!r} of {keys[place][0]} is in several administrations; "
                "add the column administration to the labelled files"
            )
    pairs: dict[int, int] = {}
    others = []
    for place in np.flatnonzero(given).tolist():
        prediction = predicted.get(keys[place])
        if prediction is not None and rows.text_check[prediction] == text_check(rows.text[place] or ""):
            pairs[place] = predicted.pop(keys[place])
        elif prediction is not None:
            others.append(place)
    for place in others:
        prediction = predicted.pop(keys[place], None)
        if prediction is None:
            continue
        pairs[place] = prediction
        if rows.text_check[prediction] is not None and not rows.no_level[place]:
            raise InputError(
                f"{rows.place(place)}: {rows.place(prediction)} has another text for id {rows.id[place][:80]!r} of "
                f"{keys[place][0]}. If these are two responses, tell them apart by their ids or by a column "
                "administration, and train again"
            )
    return pairs


def _with_predictions(rows: Rows, pairs: Mapping[int, int]) -> Rows:
    """Return rows with what their predictions say of them. pairs: the places of rows and of their predictions."""
    row = np.array([place for place in pairs if not np.isnan(rows.level[place])], np.int64)
    prediction = np.array([pairs[place] for place in row.tolist()], np.int64)
    second, other = rows.second[row], rows.second[prediction]
    relabelled = np.zeros(len(rows), bool)
    relabelled[row] = (rows.level[row] != rows.level[prediction]) | ((second != other) & ~np.isnan(second + other))
    lacking = {
        "second": np.isnan(second),
        "student": rows.student.code[row] < 0,
        "cluster": rows.cluster.code[row] < 0,
        **dict.fromkeys(_HOW_CHOSEN, (rows.chosen_by.code[row] < 0) & (rows.weight[row] == 1)),
        **dict.fromkeys(_OF_TRAINING, np.ones(len(row), bool)),
    }
    changed = {name: _copied(rows[name], row[part], prediction[part]) for name, part in lacking.items()}
    return rows.plus(**changed).counting({RELABELLED: relabelled})


def _copied(column: Values | Codes, rows: Ints, others: Ints) -> Values | Codes:
    """Return a column in which some rows have the values of others."""
    values = column.code if isinstance(column, Codes) else column
    values = values.copy()
    values[rows] = values[others]
    return Codes(column.values, values) if isinstance(column, Codes) else values
