"""Reads the output of `scoremux score`, or the out-of-fold predictions of `scoremux train`, as columns."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scoremux_client.contract import HUMAN, Reason
from scoremux_evidence.rows.close_rows import Margins
from scoremux_evidence.rows.joined_columns import ScoredColumns
from scoremux_evidence.rows.ratings import Mask
from scoremux_files.rows.columns import Codes, distributions, encode, levels, numbers, present_columns, texts
from scoremux_files.rows.writers import without_apostrophe


def read_scored(path: Path) -> ScoredColumns:
    """Read the output of `scoremux score`, or out-of-fold predictions of `scoremux train`.

    Raises InputError for a file that neither wrote.
    """
    needed = ("id", "task", "status", "level")
    others = (
        "probabilities",
        "confidence",
        "version",
        "arithmetic",
        "route",
        "score",
        "level_low",
        "level_high",
    )
    more = ("fold", "points", "seen", "administration")
    columns = present_columns(path, (*needed, *others, *more), ("id", "task"))
    if "fold" in columns and "status" not in columns:
        columns = _outcomes(columns)
    elif not columns.keys() >= {*needed}:
        present_columns(path, needed, needed)  # raises
    ids = texts(columns["id"])
    if path.suffix.lower() == ".csv":
        ids = pa.array(
            [None if i is None else without_apostrophe(i) for i in ids.to_pylist()],
            "string",
        )
    status = encode(columns["status"])
    level = levels(columns["level"])
    spread = distributions(columns.get("probabilities"), len(ids))
    nan = np.full(len(ids), np.nan)
    low, high = (levels(columns[name]) if name in columns else nan for name in others[-2:])
    score, confidence = (numbers(columns[name]) if name in columns else nan for name in ("score", "confidence"))
    has_score = status.code == status.place("OK")
    calibrated = not np.isnan(confidence).all()
    return ScoredColumns(
        ids=ids,
        status=status,
        task=encode(columns["task"]).renamed(lambda task: task.partition("@")[0]),
        version=codes_of(columns, "version", len(ids)),
        level=np.where(has_score, level, np.nan),
        score=np.where(has_score, score, np.nan),
        width=spread.width,
        expected=np.where(spread.width > 0, spread.mean, level),
        confidence=confidence if calibrated else spread.greatest,
        calibrated=calibrated,
        stated=spread.greatest,
        to_people=_to_people(columns.get("route"), len(ids)),
        low=low,
        high=high,
        seen_by_start=_seen_by_start(columns),
        margins=Margins(
            codes_of(columns, "arithmetic", len(ids)),
            np.log(np.where(has_score, spread.ratio, np.nan)).astype(np.float32),
        ),
        administration=encode(columns["administration"]) if "administration" in columns else None,
    )


def codes_of(
    columns: Mapping[str, Any],
    name: str,
    rows: int,
) -> Codes:
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


def _seen_by_start(columns: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the tasks on which the shared start of an earlier run was trained."""
    if "seen" not in columns:
        return ()
    is_seen = pc.fill_null(
        pc.equal(pc.utf8_lower(texts(columns["seen"])), "true"),
        False,
    )
    return tuple(sorted(set(columns["task"].filter(is_seen).to_pylist())))


def _outcomes(predictions: dict[str, Any]) -> dict[str, Any]:
    """Return predictions as outcomes: their `level` is a human's, and the machine's is the likeliest."""
    likeliest = [max(range(len(p)), key=p.__getitem__) for p in predictions["probabilities"].to_pylist()]
    rows = len(likeliest)
    if "points" in predictions:
        points = zip(predictions["points"].to_pylist(), likeliest, strict=True)
        predictions["score"] = pa.array([p[level] if p else None for p, level in points], pa.float64())
    return {
        **predictions,
        "level": pa.array(likeliest, "int32"),
        "status": pa.array(["OK"] * rows, "string"),
    }
