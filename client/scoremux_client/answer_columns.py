"""The columns of a server's answer: checked against the contract and decoded, one `Scored` for each row."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from scoremux_client import contract
from scoremux_client.contract import Status
from scoremux_client.errors import RejectedError
from scoremux_client.rows import Columns, Response, Scored


def decode(responses: Sequence[Response], columns: Columns) -> list[Scored]:
    """Return one `Scored` for each response, in order.

    Raises RejectedError, which quotes names of the contract alone, where the answer does not fit the contract.
    """
    for spec in contract.OUTPUTS:
        if spec.name not in columns:
            raise RejectedError(f"the server's answer has no {spec.name}; is this the model `{contract.MODEL}`?")
        _check(spec, columns[spec.name], len(responses))
    embeddings = columns.get(contract.EMBEDDING.name)
    if embeddings is not None:
        _check(contract.EMBEDDING, embeddings, len(responses))
    status, version, condition, route, arithmetic = (_texts(spec, columns[spec.name][:, 0]) for spec in _PATTERNS)
    level, score, tokens, truncated, confidence = (
        columns[spec.name][:, 0].tolist()
        for spec in (contract.LEVEL, contract.SCORE, contract.TOKENS, contract.TRUNCATED, contract.CONFIDENCE)
    )
    probabilities = _probabilities(columns[contract.PROBABILITIES.name])
    ranges = columns[contract.LEVEL_RANGE.name].tolist()
    _check_numbers(status, level, score, probabilities, confidence, ranges, tokens)
    has_score = [lv >= 0 for lv in level]
    vectors = [None] * len(responses) if embeddings is None else embeddings
    fields: tuple[Iterable[Any], ...] = (
        *([response.task for response in responses], level, _where(has_score, score), probabilities),
        *([_STATUS[name] for name in status], version, tokens, truncated, [response.id for response in responses]),
        *([None if chance < 0 else chance for chance in confidence], condition, route),
        *([None if low < 0 else (low, high) for low, high in ranges], arithmetic, _where(has_score, vectors)),
    )
    return [Scored(*values) for values in zip(*fields, strict=True)]


def decode_tasks(tasks: Sequence[str | bytes], columns: Columns) -> list[Scored]:
    """Return the outcomes of rows without ids, by their tasks."""
    names = [task if isinstance(task, str) else task.decode("utf-8", "replace") for task in tasks]
    return decode([Response(name, "") for name in names], columns) if names else []


def _where(present: Sequence[bool], values: Iterable[Any]) -> list[Any]:
    return [value if is_present else None for value, is_present in zip(values, present, strict=True)]


DTYPES = {name: np.dtype(kind) for name, kind in (("BYTES", "O"), ("INT32", "i4"), ("FP32", "f4"), ("BOOL", "?"))}
_STATUS = {status.value: status for status in Status}
_PATTERNS = {
    contract.STATUS: re.compile(b"|".join(status.value.encode() for status in Status)),
    contract.VERSION: re.compile(f"({contract.DIGEST_PATTERN})?".encode()),
    contract.CONDITION: re.compile(rb"[A-Za-z0-9_-]{0,16}"),
    contract.ROUTE: re.compile(rb"(machine|human:[A-Z0-9_]{1,32})?"),
    contract.ARITHMETIC: re.compile(rb"[A-Za-z0-9._-]{0,64}"),
}
"""What the outputs of texts may hold: whatever else a server sends, a student's words too, is not passed on."""

_SUM_TOLERANCE = 1e-3


def _check(spec: contract.TensorSpec, column: npt.NDArray[Any], rows: int) -> None:
    """Raise RejectedError if a column has another number of rows, shape or type than the contract's."""
    if len(column) != rows:
        raise RejectedError(f"{spec.name} has {len(column)} rows where {rows} were sent")
    row = column.shape[1:]
    if len(row) != 1 or spec.shape[0] not in (row[0], contract.VARIABLE):
        raise RejectedError(f"{spec.name} has rows of shape {list(row)}, not {list(spec.shape)}; upgrade scoremux")
    if column.dtype != DTYPES[spec.datatype]:
        raise RejectedError(f"{spec.name} is {column.dtype}, not {spec.datatype}; upgrade scoremux")


def _texts(spec: contract.TensorSpec, values: npt.NDArray[np.object_]) -> list[str]:
    # Rows of a task share its version, as one string.
    text_of = {value: value.decode() for value in set(values.tolist()) if _PATTERNS[spec].fullmatch(value)}
    try:
        return [text_of[value] for value in values]
    except KeyError:
        raise RejectedError(f"unknown {spec.name} from the server; upgrade scoremux") from None


def _probabilities(table: npt.NDArray[np.float32]) -> list[tuple[float, ...]]:
    """Return each row's probabilities of its task's own levels: those before the zeros."""
    positive = table > 0
    widths = positive.sum(axis=1)
    in_front = np.arange(table.shape[1]) < widths[:, None]
    sums = np.abs(table.sum(axis=1) - (widths > 0)) < _SUM_TOLERANCE
    if not (sums.all() and (positive == in_front).all() and table.min(initial=0) >= 0):
        raise _not_allowed(contract.PROBABILITIES)
    if ((table <= contract.LEAST_PROBABILITY) & positive).any():
        table = np.where(table <= contract.LEAST_PROBABILITY, np.float32(0), table)
    return [tuple(row[:width]) for row, width in zip(table.tolist(), widths.tolist(), strict=True)]


def _check_numbers(
    statuses: Sequence[str],
    levels: Sequence[int],
    scores: Sequence[float],
    probabilities: Sequence[tuple[float, ...]],
    confidences: Sequence[float],
    ranges: Sequence[Sequence[int]],
    tokens: Sequence[int],
) -> None:
    """Raise RejectedError for a number that the contract does not allow in its row."""
    if min(tokens, default=0) < 0:
        raise _not_allowed(contract.TOKENS)
    rows = zip(statuses, levels, scores, probabilities, confidences, ranges, strict=True)
    for status, level, score, shares, confidence, (low, high) in rows:
        if status == "OK":
            count = len(shares) or contract.MOST_LEVELS
            if not 0 <= level < count:
                raise _not_allowed(contract.LEVEL)
            if not contract.NO_SCORE < score < math.inf:
                raise _not_allowed(contract.SCORE)
            if not (0 <= confidence <= 1 or confidence == contract.NO_CONFIDENCE):
                raise _not_allowed(contract.CONFIDENCE)
            if not (0 <= low <= level <= high < count or (low == -1 and high == -1)):
                raise _not_allowed(contract.LEVEL_RANGE)
        elif level != contract.NO_LEVEL:
            raise _not_allowed(contract.LEVEL)
        elif shares:
            raise _not_allowed(contract.PROBABILITIES)
        elif confidence != contract.NO_CONFIDENCE:
            raise _not_allowed(contract.CONFIDENCE)
        elif low != -1 or high != -1:
            raise _not_allowed(contract.LEVEL_RANGE)


def _not_allowed(spec: contract.TensorSpec) -> RejectedError:
    return RejectedError(f"the server's {spec.name} is not what the contract allows; upgrade scoremux")
