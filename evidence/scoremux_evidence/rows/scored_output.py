"""The output of `scoremux score`, or the out-of-fold predictions of `scoremux train` → Rows.

Columns: id (Arrow), status, task (without a pinned digest), version (of predictions the adapter), condition and, where
the output has it, administration (`Codes`), machine (the level that the machine gave) and score (its points, both NaN
without a score), width (how many probabilities a row has), confidence (P(level = human's level), or the greatest
probability where the output has none), calibrated (whether it has confidences), predicted (whether they are out-of-fold
predictions), to_people (whether a policy sends the row to people), and low and high (the range of levels that holds a
human's).
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scoremux_client.contract import HUMAN, Reason
from scoremux_evidence.rows.table import Floats, Mask, Rows
from scoremux_files.errors import parsing
from scoremux_files.rows.codes import Codes, Ints32
from scoremux_files.rows.columns import distributions, encode, levels, number_lists, numbers, present_columns, texts
from scoremux_files.rows.writers import without_apostrophe

UNKNOWN_LEVELS = 256
"""How many levels a task has if the output has no probabilities: more than any scale."""


def read_scored(path: Path) -> Rows:
    """Read the output of `scoremux score`, or out-of-fold predictions of `scoremux train`.

    Raises InputError for a file that neither wrote.
    """
    needed = ("id", "task", "status", "level")
    others = ("probabilities", "confidence", "version", "route", "score", "level_low", "level_high")
    more = ("fold", "points", "administration", "condition", "adapter")
    columns = present_columns(path, (*needed, *others, *more), ("id", "task"))
    is_predicted = {"fold", "probabilities"} <= columns.keys() and "status" not in columns
    with parsing(f"{path}: a cell of probabilities or points has something else than numbers"):
        columns = _outcomes(columns) if is_predicted else columns
        spread = distributions(columns.get("probabilities"), len(columns["id"]))
    if not columns.keys() >= {*needed}:
        present_columns(path, needed, needed)  # raises
    ids = texts(columns["id"])
    if path.suffix.lower() == ".csv":
        ids = pa.array([None if i is None else without_apostrophe(i) for i in ids.to_pylist()], "string")
    status = encode(columns["status"])
    level = levels(columns["level"])
    nan = np.full(len(ids), np.nan)
    low, high = (levels(columns[name]) if name in columns else nan for name in others[-2:])
    score, confidence = (numbers(columns[name]) if name in columns else nan for name in ("score", "confidence"))
    has_score = status.code == status.place("OK")
    is_calibrated = not np.isnan(confidence).all()
    rows = Rows.of(
        id=ids,
        status=status,
        task=encode(columns["task"]).renamed(lambda task: task.partition("@")[0]),
        version=_codes_of(columns, "adapter" if is_predicted else "version", len(ids)),
        condition=_codes_of(columns, "condition", len(ids)),
        machine=np.where(has_score, level, np.nan),
        score=np.where(has_score, score, np.nan),
        width=spread.width,
        confidence=confidence if is_calibrated else spread.greatest,
        calibrated=np.full(len(ids), is_calibrated),
        predicted=np.full(len(ids), is_predicted),
        to_people=_to_people(columns.get("route"), len(ids)),
        low=low,
        high=high,
    )
    return rows.plus(administration=encode(columns["administration"])) if "administration" in columns else rows


def level_counts(scored: Rows) -> Ints32:
    """Return how many levels each task of an output has: as many as it has probabilities, [T]."""
    code = scored.task.code
    named = code >= 0
    most = np.zeros(len(scored.task.values), np.int32)
    np.maximum.at(most, code[named], scored.width[named])
    most[most == 0] = UNKNOWN_LEVELS
    return np.minimum(most, UNKNOWN_LEVELS)


def versions_of(scored: Rows) -> Iterator[tuple[str, str]]:
    """Yield the tasks of an output with the versions that scored their rows, empty for rows that name none.

    Out-of-fold predictions have no version: the adapter that made them had not seen the row.
    """
    rows = scored.where(~scored.predicted)
    for task, version in np.unique(np.stack([rows.task.code, rows.version.code]), axis=1).T:
        if task >= 0:
            yield rows.task.values[task], rows.version.values[version] if version >= 0 else ""


def _codes_of(columns: Mapping[str, Any], name: str, rows: int) -> Codes:
    """Return a column as codes; −1 in all rows where a file has no such column."""
    return encode(columns[name]) if name in columns else Codes((), np.full(rows, -1, np.int32))


def _to_people(route: Any | None, rows: int) -> Mask:
    """Return which rows a policy sends to people: none where no task has a calibration, which would decide that."""
    if route is None:
        return np.zeros(rows, bool)
    names = texts(route)
    undecided = pa.array([None, "", Reason.UNCALIBRATED.route, Reason.NO_SCORE.route])
    if pc.all(pc.is_in(names, undecided)).as_py():
        return np.zeros(rows, bool)
    routed = pc.fill_null(pc.starts_with(names, HUMAN), False)
    return np.asarray(routed.to_numpy(zero_copy_only=False), bool)


def _outcomes(predictions: dict[str, Any]) -> dict[str, Any]:
    """Return predictions as outcomes: their `level` is a human's, and the machine's is the likeliest."""
    likeliest = [int(p.argmax()) if len(p) and p.max() >= 0 else None for p in _lists(predictions["probabilities"])]
    rows = len(likeliest)
    if "points" in predictions:
        points = zip(_lists(predictions["points"]), likeliest, strict=True)
        scores = [None if level is None or level >= len(p) else p[level] for p, level in points]
        predictions["score"] = pa.array(scores, pa.float64())
    return {**predictions, "level": pa.array(likeliest, "int32"), "status": pa.array(["OK"] * rows, "string")}


def _lists(column: Any) -> list[Floats]:
    """Return the numbers of each row."""
    values, count = number_lists(column)
    return [values[end - size : end] for size, end in zip(count.tolist(), np.cumsum(count).tolist(), strict=True)]
