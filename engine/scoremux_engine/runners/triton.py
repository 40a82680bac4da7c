"""The runner that calls the Triton model `backbone`: a full Triton serves it with its own ONNX Runtime or TensorRT."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from scoremux_engine.runners.runner import row_feeds
from scoremux_engine.tables import DTypes, Tables

Infer = Callable[[dict[str, npt.NDArray[Any]]], npt.NDArray[np.float32]]
"""Runs the graph: its inputs by name in, `logits` out. Called from several threads at once."""


class TritonRunner:
    """Hands each micro-batch to `infer`, a call to the model `backbone` (BLS inside Triton's Python backend).

    precision: what that model computes in, as the profile says.
    """

    overlap = 4
    streams = 1
    in_place = False  # tables travel with every call

    def __init__(self, infer: Infer, precision: str = "float32") -> None:
        self.precision = precision
        self._infer = infer
        self.dtypes: DTypes = {}

    def run(
        self,
        input_ids: npt.NDArray[np.int64],
        attention_mask: npt.NDArray[np.int64],
        group: npt.NDArray[np.int64],
        tables: Tables,
    ) -> npt.NDArray[np.float32]:
        """See `BackboneRunner.run`."""
        return self._infer({**row_feeds(input_ids, attention_mask, group), **tables.arrays})
