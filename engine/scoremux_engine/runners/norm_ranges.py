"""Measurements of an export with OpenVINO: int8's ranges, in portable float32, and each precision's distance."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from scoremux_engine.errors import RunnerError
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.model.tables import size_class, stack
from scoremux_engine.runners.expected import distance
from scoremux_engine.runners.int8 import RANGES, Ranges, end_of_norm, name_of, random_rows
from scoremux_engine.runners.openvino import OpenVinoRunner, read
from scoremux_engine.runners.portable_math import make_portable
from scoremux_engine.runners.precisions import BFLOAT16, FLOAT32, INT8

PORTABLE = "x86-f32"
"""The arithmetic that ranges are measured in, so that int8 has the same bits everywhere."""


class RangeRunner(OpenVinoRunner):
    """Computes in portable float32, without packing: the outputs of LayerNorms are outputs of its model, too."""

    def _prepared(self, model: Any, backbone: Backbone) -> Any:
        norms = [node for node in model.get_ordered_ops() if node.get_type_name() == "MVN"]
        named = {name_of(end_of_norm(node)) for node in norms} - {""}
        make_portable(model, backbone.spec.max_tokens)
        values = [value for node in model.get_ordered_ops() for value in node.outputs()]
        ends = {name: value for value in values if (name := name_of(value)) in named}
        model.add_outputs(list(ends.values()))
        self._ends, self.dtypes, self.packed_inputs = list(ends), {}, frozenset[str]()
        return model

    def ranges(self, backbone: Backbone) -> Ranges:
        """Return the ranges of the outputs of LayerNorms for random tokens without adapters.

        Norms hold a column within a range that hardly depends on text and adapter. Larger values are later cut to it.
        """
        ranges, tables = Ranges(), stack([{}], backbone.spec, size_class({}, 1))
        for rows in random_rows(backbone) if self._ends else ():
            arrays = self._compute(rows, tables, self._ends)
            for name, array in zip(self._ends, arrays, strict=True):
                before_columns = tuple(range(array.ndim - 1))
                columns = np.abs(array).max(axis=before_columns)
                ranges[name] = np.maximum(columns, ranges.get(name, columns))
        return ranges


def distances(backbone: Backbone) -> dict[str, float | str]:
    """Return by precision the distance from the expected outputs, or why there is none.

    int8's ranges are added to `backbone.measured` where the arithmetic is PORTABLE. One thread and one stream are
    enough, as no bit depends on their number.
    """
    graph = read(backbone)

    def of(precision: str, kind: type[OpenVinoRunner] = OpenVinoRunner) -> float | str:
        try:
            runner = kind(backbone, precision, 1, graph=graph)
            if isinstance(runner, RangeRunner) and runner.arithmetic == PORTABLE:
                named = {f"{RANGES}{name}": columns for name, columns in runner.ranges(backbone).items()}
                backbone.measured |= {RANGES: np.zeros(1, np.float32)} | named
            return distance(backbone, runner)
        except RunnerError as error:
            return str(error)

    with ThreadPoolExecutor(1) as pool:
        bfloat16 = pool.submit(of, BFLOAT16)
        return {FLOAT32: of(FLOAT32, RangeRunner), INT8: of(INT8), BFLOAT16: bfloat16.result()}
