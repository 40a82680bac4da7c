"""Answers as the contract says, for servers that compute nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from tritonclient.grpc import service_pb2
from tritonclient.utils import serialize_byte_tensor

_TYPES = {"O": "BYTES", "i": "INT32", "f": "FP32", "b": "BOOL"}


def ok_columns(levels: Sequence[int]) -> dict[str, npt.NDArray[Any]]:
    """Return the outputs of rows with a score: of four levels, or, above, without probabilities."""

    def column(value: Any, dtype: Any) -> npt.NDArray[Any]:
        return np.full((len(levels), 1), value, dtype)

    return {
        "STATUS": column(b"OK", np.object_),
        "LEVEL": np.array(levels, np.int32).reshape(-1, 1),
        "SCORE": column(0.75, np.float32),
        "PROBABILITIES": np.array([[0.25] * 4 if level < 4 else [0] * 4 for level in levels], np.float32).reshape(
            -1, 4
        ),
        "VERSION": column(b"a" * 64, np.object_),
        "TOKENS": column(9, np.int32),
        "TRUNCATED": column(True, np.bool_),
        "CONFIDENCE": column(0.5, np.float32),
        "CONDITION": column(b"", np.object_),
        "ROUTE": column(b"machine", np.object_),
        "LEVEL_RANGE": np.full((len(levels), 2), -1, np.int32),
        "ARITHMETIC": column(b"stub", np.object_),
    }


def infer_response(columns: dict[str, npt.NDArray[Any]]) -> Any:
    """Return the message of KServe that carries these outputs."""
    response = service_pb2.ModelInferResponse(model_name="scorer")
    for name, array in columns.items():
        datatype = _TYPES[array.dtype.kind]
        response.outputs.add(name=name, datatype=datatype, shape=array.shape)
        raw = serialize_byte_tensor(array).item() if datatype == "BYTES" else array.tobytes()
        response.raw_output_contents.append(raw)
    return response
