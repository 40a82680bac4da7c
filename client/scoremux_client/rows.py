"""Rows to wire tensors and back: `Response` → TEXT, TASK; output tensors → `Scored`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from scoremux_client import contract
from scoremux_client.contract import Status
from scoremux_client.errors import InputError, RejectedError
from scoremux_client.response import Response
from scoremux_client.scored import Scored

_STATUS = {status.value.encode(): status for status in Status}

Columns = Mapping[str, npt.NDArray[Any]]
"""Tensor name → array, batch dimension first."""


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
    """Return one `Scored` a response, in order. Raises RejectedError where the answer does not fit the contract."""
    _check(len(responses), columns)
    try:
        status = [_STATUS[s] for s in columns[contract.STATUS.name][:, 0]]
        version = _texts(columns[contract.VERSION.name][:, 0])
    except (KeyError, ValueError) as error:  # UnicodeDecodeError is a ValueError
        raise RejectedError(f"STATUS or VERSION is none that this client knows, update it: {error}") from error
    level, score, tokens, truncated = (
        columns[spec.name][:, 0].tolist()
        for spec in (contract.LEVEL, contract.SCORE, contract.TOKENS, contract.TRUNCATED)
    )
    table = columns[contract.PROBABILITIES.name]
    widths = (~np.isnan(table)).sum(axis=1).tolist()
    probabilities = [tuple(row[:width]) for row, width in zip(table.tolist(), widths, strict=True)]
    rows = zip(responses, level, score, probabilities, status, version, tokens, truncated, strict=True)
    return [Scored(r.task, lv, sc, ps, st, ve, to, tr, r.id) for r, lv, sc, ps, st, ve, to, tr in rows]


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
