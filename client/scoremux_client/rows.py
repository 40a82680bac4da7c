"""One row on its way: `Response` goes in, the wire's tensors carry it, `Scored` comes back."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from scoremux_client import contract, lti
from scoremux_client.contract import Status
from scoremux_client.errors import InputError, RejectedError

Columns = Mapping[str, npt.NDArray[Any]]
"""Tensor name → array, batch dimension first."""

_STATUS = {status.value.encode(): status for status in Status}


@dataclass(frozen=True)
class Response:
    """A student's text for a task.

    task: task id such as ``en-6.3-ipp``, or ``id@digest`` to pin a version.
    text: the response. ``bytes`` go to the server as they are (they must be UTF-8 to get a score).
    id: the caller's own name for the row; comes back untouched.
    """

    task: str
    text: str | bytes
    id: str | None = None

    def __repr__(self) -> str:
        # A student's text must not end up in a traceback or a log.
        text = f"<{len(self.text)} long>" if isinstance(self.text, (str, bytes)) else f"<{type(self.text).__name__}>"
        return f"Response(task={self.task!r}, id={self.id!r}, text={text})"


@dataclass(frozen=True, slots=True)
class Scored:
    """One row's outcome.

    level: ordinal class index 0…L−1, −1 without a score.
    score: the points the level stands for, NaN without a score.
    probabilities: float32 values of the task's own L levels; empty without a score, and for a task whose head gives one
        value in points.
    status: ``Status.OK``, or why there is no score.
    version: sha256 digest of the task package that scored the row, empty without a score.
    tokens: tokens the backbone saw, special tokens included.
    truncated: whether the text had more tokens than the backbone takes.
    confidence: calibrated probability that a human would give this level; None without a calibration or a score.
    condition: code of a response that is no attempt or cannot be scored as one, such as ``B``; empty for none.
    level_range: lowest and highest level of the range around `level` that holds a human's level with the policy's
        confidence; None without a calibration or a score.
    route: ``machine``, or ``human:`` and a reason (`contract.Reason`); empty where nobody can grade the row.
    embedding: float32 [H], the vector that the task's head read, None without a score or if it was not asked for; two
        outcomes that differ in it alone are equal.
    """

    task: str
    level: int
    score: float
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
        return cls(response.task, -1, math.nan, (), status, "", 0, False, response.id)

    def to_lti_ags(
        self,
        user_id: str,
        *,
        score_maximum: float | None = None,
        levels: Sequence[float] | None = None,
        timestamp: datetime | None = None,
        activity_progress: lti.ActivityProgress = "Completed",
        needs_review: bool = False,
        comment: str | None = None,
    ) -> lti.Score:
        """Return the score as LTI Assignment and Grade Services 2.0 posts it to a line item's ``/scores``.

        gradingProgress is PendingManual for a row that goes to people, and for one without a score that a person can
        still grade; it is Failed if the task, the token or the encoding of the text is at fault. Without a score there
        is no scoreGiven.

        Args:
            user_id: the platform's id of the student.
            score_maximum: points of a full score. An outcome does not know them: give this or `levels` for a score.
            levels: the points of the task's levels (`task.json`), whose largest is the maximum.
            timestamp: when it was scored, with a time zone; now if None.
            activity_progress: what the student has done, as LTI says it.
            needs_review: a person has yet to confirm it; platforms show it as PendingManual.
            comment: shown to the student.

        Raises:
            InputError: the score has no maximum, or LTI has no such score or timestamp.

        >>> scored = Scored("t-1", 3, 0.75, (0.1, 0.1, 0.1, 0.6, 0.1), Status.OK, "", 9, False)
        >>> when = datetime.fromisoformat("2026-01-05T10:00:00+00:00")
        >>> score = scored.to_lti_ags("student-7", levels=[0, 0.25, 0.5, 0.75, 1], timestamp=when)
        >>> score["scoreGiven"], score["scoreMaximum"], score["gradingProgress"], score["timestamp"]
        (0.75, 1.0, 'FullyGraded', '2026-01-05T10:00:00.000+00:00')
        """
        return lti.score(
            user_id,
            self.status,
            self.score if self.ok else None,
            maximum=score_maximum,
            levels=levels,
            timestamp=timestamp,
            activity_progress=activity_progress,
            needs_review=needs_review or self.to_human,
            comment=comment,
        )


def to_bytes(text: str | bytes) -> bytes:
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
    """Return one `Scored` for each response, in order. Raises RejectedError if the answer does not fit the contract."""
    _check(len(responses), columns)
    try:
        status = [_STATUS[s] for s in columns[contract.STATUS.name][:, 0]]
        version, condition, route = (
            _texts(columns[spec.name][:, 0]) for spec in (contract.VERSION, contract.CONDITION, contract.ROUTE)
        )
    except (KeyError, ValueError) as error:  # UnicodeDecodeError is a ValueError
        raise RejectedError(
            f"STATUS, VERSION, CONDITION or ROUTE is none that this client knows, update it: {error}"
        ) from error
    level, score, tokens, truncated = (
        columns[spec.name][:, 0].tolist()
        for spec in (contract.LEVEL, contract.SCORE, contract.TOKENS, contract.TRUNCATED)
    )
    table = columns[contract.PROBABILITIES.name]
    widths = (~np.isnan(table)).sum(axis=1).tolist()
    probabilities = [tuple(row[:width]) for row, width in zip(table.tolist(), widths, strict=True)]
    sure = [None if math.isnan(value) else value for value in columns[contract.CONFIDENCE.name][:, 0].tolist()]
    ranges = [(low, high) if low >= 0 else None for low, high in columns[contract.LEVEL_RANGE.name].tolist()]
    decided = zip(sure, condition, route, ranges, strict=True)
    rows = zip(responses, level, score, probabilities, status, version, tokens, truncated, decided, strict=True)
    scored = [Scored(r.task, lv, sc, ps, st, ve, to, tr, r.id, *de) for r, lv, sc, ps, st, ve, to, tr, de in rows]
    embeddings = columns.get(contract.EMBEDDING.name)
    if embeddings is None:
        return scored
    if len(embeddings) != len(scored):
        raise RejectedError(f"{contract.EMBEDDING.name} has {len(embeddings)} rows where {len(scored)} were sent")
    return [replace(s, embedding=row) if s.ok else s for s, row in zip(scored, embeddings, strict=True)]


def _texts(values: npt.NDArray[np.object_]) -> list[str]:
    # Rows of a task share its version, as one string.
    known = {value: value.decode() for value in set(values.tolist())}
    return [known[value] for value in values]


def _check(rows: int, columns: Columns) -> None:
    for spec in contract.OUTPUTS:
        if spec.name not in columns:
            raise RejectedError(f"the server's answer has no {spec.name}; is this the model `{contract.MODEL}`?")
        if len(columns[spec.name]) != rows:
            raise RejectedError(f"{spec.name} has {len(columns[spec.name])} rows where {rows} were sent")
        row = columns[spec.name].shape[1:]
        if len(row) != 1 or spec.shape[0] not in (row[0], contract.VARIABLE):
            raise RejectedError(
                f"{spec.name} has rows of shape {list(row)}, not {list(spec.shape)}; update this client"
            )
