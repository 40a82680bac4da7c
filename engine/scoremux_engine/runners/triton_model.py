"""The runner that calls the Triton model `backbone`: a full Triton serves it with its own ONNX Runtime or TensorRT."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy.typing as npt

from scoremux_engine.model.backbone import BackboneSpec
from scoremux_engine.model.tables import Tables
from scoremux_engine.runners.runner import BackboneRunner, Floats, RowInputs

Infer = Callable[[dict[str, npt.NDArray[Any]], list[str]], list[Floats]]
"""Runs the graph: its inputs by name and the names of outputs in, these outputs out. Called from several threads."""


class TritonRunner(BackboneRunner):
    """Hands each micro-batch to `infer`, a call to the model `backbone` (BLS inside Triton's Python backend).

    precision, arithmetic: of that model, by name.
    """

    overlap = 4
    streams = 1
    in_place = False  # tables travel with every call
    anytime = False  # Triton takes no such calls before the calling model is loaded
    arithmetic = ""

    def __init__(self, infer: Infer, spec: BackboneSpec, precision: str = "float32", arithmetic: str = "") -> None:
        self.precision, self.arithmetic = precision, arithmetic
        self._infer = infer
        self._kept = spec.kept

    def _compute(self, rows: RowInputs, tables: Tables, outputs: list[str]) -> Sequence[Floats]:
        return self._infer({**rows.feeds, **tables.arrays}, outputs)
