"""The columns of a server's answer: checked against the contract and decoded, one `Scored` for each row."""

import math
import re
from collections.abc import Sequence
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
    if contract.FEEDBACK.name not in columns:  # a transport of your own may leave it out
        columns = {**columns, contract.FEEDBACK.name: np.full((len(responses), 1), b"", np.object_)}
    asked = (contract.EMBEDDING,) if contract.EMBEDDING.name in columns else ()
    for spec in (*contract.OUTPUTS, *asked):
        if spec.name not in columns:
            raise RejectedError(f"the server's answer has no {spec.name}; is this the model `{contract.MODEL}`?")
        _check(spec, columns[spec.name], len(responses))
    rows = zip(
        responses,
        *(_texts(spec, columns[spec.name][:, 0]) for spec in _PATTERNS),
        *(columns[spec.name][:, 0].tolist() for spec in _NUMBERS),
        _probabilities(columns[contract.PROBABILITIES.name]),
        columns[contract.LEVEL_RANGE.name].tolist(),
        columns.get(contract.EMBEDDING.name, [None] * len(responses)),
        strict=True,
    )
    return [_scored(*row) for row in rows]


def decode_tasks(tasks: Sequence[str | bytes], columns: Columns) -> list[Scored]:
    """Return the outcomes of rows without ids, by their tasks."""
    names = [task if isinstance(task, str) else task.decode("utf-8", "replace") for task in tasks]
    return decode([Response(name, "") for name in names], columns) if names else []


DTYPES = {name: np.dtype(kind) for name, kind in (("BYTES", "O"), ("INT32", "i4"), ("FP32", "f4"), ("BOOL", "?"))}
_STATUS = {status.value: status for status in Status}
_PATTERNS = {
    contract.STATUS: re.compile(b"|".join(status.value.encode() for status in Status)),
    contract.VERSION: re.compile(f"({contract.DIGEST_PATTERN})?".encode()),
    contract.CONDITION: re.compile(rb"[A-Za-z0-9_-]{0,16}"),
    contract.ROUTE: re.compile(rb"(machine|human:[A-Z0-9_]{1,32})?"),
    contract.ARITHMETIC: re.compile(rb"[A-Za-z0-9._-]{0,64}"),
    contract.FEEDBACK: re.compile(b".{0,%d}" % contract.MOST_FEEDBACK_BYTES, re.DOTALL),
}
"""What the outputs of texts may hold: whatever else a server sends, a student's words too, is not passed on."""

_NUMBERS = (contract.LEVEL, contract.SCORE, contract.TOKENS, contract.TRUNCATED, contract.CONFIDENCE)
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
    try:
        text_of = {value: value.decode() for value in set(values.tolist()) if _PATTERNS[spec].fullmatch(value)}
        return [text_of[value] for value in values]
    except (KeyError, UnicodeDecodeError):
        raise RejectedError(f"unknown {spec.name} from the server; upgrade scoremux") from None


def _probabilities(table: npt.NDArray[np.float32]) -> list[tuple[float, ...]]:
    """Return each row's probabilities of its task's own levels: those before the zeros."""
    is_positive = table > 0
    widths = is_positive.sum(axis=1)
    is_in_front = np.arange(table.shape[1]) < widths[:, None]
    off = np.abs(table.sum(axis=1) - (widths > 0))
    adds_up = off < _SUM_TOLERANCE
    if not (adds_up.all() and (is_positive == is_in_front).all() and table.min(initial=0) >= 0):
        raise _not_allowed(contract.PROBABILITIES)
    is_least = is_positive & (table <= contract.LEAST_PROBABILITY)
    if is_least.any():
        table = np.where(is_least, np.float32(0), table)
    return [tuple(row[:width]) for row, width in zip(table.tolist(), widths.tolist(), strict=True)]


def _scored(
    response: Response,
    status: str,
    version: str,
    condition: str,
    route: str,
    arithmetic: str,
    feedback: str,
    level: int,
    score: float,
    tokens: int,
    truncated: bool,
    confidence: float,
    probabilities: tuple[float, ...],
    level_range: Sequence[int],
    embedding: Any,
) -> Scored:
    """Return the outcome of a row. Raises RejectedError for a number that the contract does not allow in it."""
    low, high = level_range
    has_range = level_range != [*contract.NO_RANGE]
    has_confidence = confidence != contract.NO_CONFIDENCE
    if tokens < 0:
        raise _not_allowed(contract.TOKENS)
    if status == "OK":
        count = len(probabilities) or contract.MOST_LEVELS
        if not 0 <= level < count:
            raise _not_allowed(contract.LEVEL)
        if not contract.NO_SCORE < score < math.inf:
            raise _not_allowed(contract.SCORE)
        if has_confidence and not 0 <= confidence <= 1:
            raise _not_allowed(contract.CONFIDENCE)
        if has_range and not 0 <= low <= level <= high < count:
            raise _not_allowed(contract.LEVEL_RANGE)
    elif level != contract.NO_LEVEL:
        raise _not_allowed(contract.LEVEL)
    elif probabilities:
        raise _not_allowed(contract.PROBABILITIES)
    elif has_confidence:
        raise _not_allowed(contract.CONFIDENCE)
    elif has_range:
        raise _not_allowed(contract.LEVEL_RANGE)
    has_score = level >= 0
    return Scored(
        task=response.task,
        level=level,
        score=score if has_score else None,
        probabilities=probabilities,
        status=_STATUS[status],
        version=version,
        tokens=tokens,
        truncated=truncated,
        id=response.id,
        confidence=confidence if has_confidence else None,
        condition=condition,
        route=route,
        level_range=(low, high) if has_range else None,
        arithmetic=arithmetic,
        embedding=embedding if has_score else None,
        feedback=feedback if has_score else "",
    )


def _not_allowed(spec: contract.TensorSpec) -> RejectedError:
    return RejectedError(f"the server's {spec.name} is not what the contract allows; upgrade scoremux")
