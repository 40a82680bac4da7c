"""A backbone runner in float64: the judge's arithmetic behind the seam of the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from scoremux_engine.judge.exact_graph import ExactGraph
from scoremux_engine.judge.rounding_bounds import difference_bounds
from scoremux_engine.model import backbone as names
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.model.tables import DTypes, Tables
from scoremux_engine.runners.runner import Outputs, RowInputs

Floats64 = npt.NDArray[np.float64]


class ExactRunner:
    """Runs `backbone.onnx` in float64, slowly, with equal bits on every machine. See `BackboneRunner`."""

    precision = arithmetic = "float64"
    overlap = streams = 1
    in_place = anytime = True
    express = False

    def __init__(self, backbone: Backbone) -> None:
        self.dtypes: DTypes = dict.fromkeys(backbone.spec.table_inputs, np.dtype(np.float64))
        self._kept = backbone.spec.kept
        self._graph = ExactGraph(backbone.onnx)

    def run(self, rows: RowInputs, tables: Tables, *, pooled: bool = False) -> Outputs:
        """See `BackboneRunner.run`; float64."""
        outputs = [names.LOGITS, names.POOLED] if pooled else [names.LOGITS]
        return Outputs(*self._graph.run(outputs, {**rows.feeds, **tables.arrays}))

    def difference_bounds(self, rows: RowInputs, tables: Tables, outputs: int) -> tuple[Floats64, Floats64]:
        """Return the logits of one row, and how far float32 can take each from the largest: see `rounding_bounds`."""
        return difference_bounds(self._graph, names.LOGITS, {**rows.feeds, **tables.arrays}, outputs)

    def keys_and_values(self, rows: RowInputs, tables: Tables) -> dict[str, Any]:
        """See `BackboneRunner.keys_and_values`; float64."""
        feeds: Mapping[str, Any] = {**rows.feeds, **tables.arrays}
        return dict(zip(self._kept, self._graph.run(list(self._kept.values()), feeds), strict=True))
