"""Rows and their tensors: a `Response` is encoded for the request, a `Scored` decoded from the answer."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from scoremux_client import contract
from scoremux_client.contract import Status
from scoremux_client.errors import InputError, RejectedError

Columns = Mapping[str, npt.NDArray[Any]]
"""Tensor name → array, batch dimension first."""


@dataclass(frozen=True)
class Response:
    """A student's text for a task.

    task: task id such as ``en-6.3-ipp``, or ``id@digest`` to pin a version.
    text: the response. ``bytes`` go to the server as they are (they must be UTF-8 to get a score). None, and a str with
        half of a surrogate pair, get INVALID_TEXT without being sent.
    id: the caller's own name for the row; comes back untouched.
    """

    task: str
    text: str | bytes | None
    id: str | None = None

    def __repr__(self) -> str:
        # A student's text must not end up in a traceback or a log.
        text = f"<{len(self.text)} long>" if isinstance(self.text, (str, bytes)) else f"<{type(self.text).__name__}>"
        return f"Response(task={self.task!r}, id={self.id!r}, text={text})"


@dataclass(frozen=True, slots=True)
class Scored:
    """One row's outcome.

    level: ordinal class index 0…L−1, −1 without a score.
    score: the points the level stands for, None without a score.
    probabilities: float32 values of the task's own L levels; empty without a score, and for a task whose head gives one
        value in points.
    status: ``Status.OK``, or why a score is missing.
    version: sha256 digest of the task package that scored the row, empty without a score.
    tokens: tokens the backbone saw, special tokens included.
    truncated: whether the text had more tokens than the backbone takes.
    confidence: calibrated probability that a human would give this level; None without a calibration or a score.
    condition: code of a response that cannot be scored as an attempt, such as ``B``; empty for none.
    level_range: lowest and highest level of the range around `level` that holds a human's level with the policy's
        confidence; None without a calibration or a score.
    route: ``machine``, or ``human:`` and a reason (`contract.Reason`); empty where a person cannot grade it either.
    arithmetic: what computed the row, such as ``x86-f32``; empty if nothing did.
    embedding: float32 [H], the vector that the task's head read, None without a score or if it was not asked for.
    Two outcomes that differ in arithmetic and embedding alone are equal.
    """

    task: str
    level: int
    score: float | None
    probabilities: tuple[float, ...]
    status: Status
    version: str
    tokens: int
    truncated: bool
    id: str | None = None
    confidence: float | None = None
    condition: str = ""
    route: str = ""
    level_range: tuple[int, int] | None = None
    arithmetic: str = field(default="", compare=False)
    embedding: npt.NDArray[np.float32] | None = field(default=None, repr=False, compare=False)

    @property
    def ok(self) -> bool:
        """Whether the row has a score."""
        return self.status is Status.OK

    @property
    def to_human(self) -> bool:
        """Whether the row goes to people."""
        return self.route.startswith(contract.HUMAN)

    @classmethod
    def without_score(cls, response: Response, status: Status) -> Scored:
        """Return the outcome of a row that no server scored."""
        return cls(response.task, contract.NO_LEVEL, None, (), status, "", 0, False, response.id)


def what_is_wrong(row: object) -> str:
    """Return why a row cannot be scored; empty if it can."""
    if not isinstance(row, Response):
        return f"it is of type {type(row).__name__}, not a scoremux_client.Response(task=…, text=…)"
    if isinstance(row.task, (str, bytes)) and isinstance(row.text, (str, bytes, type(None))):
        return ""
    kinds = f"{type(row.task).__name__} and {type(row.text).__name__}"
    return f"task and text are {kinds}, not str or bytes"


def is_text(text: str | bytes | None) -> bool:
    """Whether a text can be sent: it is not missing and, if it is a str, has no half of a surrogate pair."""
    try:
        return text is not None and (isinstance(text, bytes) or text.isascii() or bool(text.encode()))
    except UnicodeEncodeError:
        return False


def to_bytes(text: str | bytes | None) -> bytes:
    """Return UTF-8; a str with lone surrogates becomes bytes that the server answers with INVALID_TEXT."""
    if isinstance(text, bytes):
        return text
    if not isinstance(text, str):
        raise InputError(f"a text or task is {type(text).__name__}, not str or bytes")
    return text.encode("utf-8", "surrogatepass")


def encode(responses: Sequence[Response]) -> dict[str, npt.NDArray[np.object_]]:
    """Return the input tensors, object arrays of bytes [B, 1]."""
    columns = {contract.TEXT.name: [to_bytes(r.text) for r in responses]}
    columns[contract.TASK.name] = [to_bytes(r.task) for r in responses]
    arrays = {name: np.empty((len(responses), 1), dtype=np.object_) for name in columns}
    for name, values in columns.items():
        arrays[name][:, 0] = values
    return arrays


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
