"""Measurements of an export with OpenVINO: int8's ranges, in portable float32, and each precision's distance."""

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from scoremux_engine.errors import RunnerError
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.model.tables import size_class, stack
from scoremux_engine.runners.arithmetic import probe_digest
from scoremux_engine.runners.expected import DISTANCE, farthest, from_float32, outputs
from scoremux_engine.runners.int8 import RANGES, Ranges, end_of_norm, name_of, random_rows
from scoremux_engine.runners.openvino import OpenVinoRunner, read
from scoremux_engine.runners.portable_math import make_portable
from scoremux_engine.runners.precisions import BFLOAT16, FLOAT32, INT8
from scoremux_engine.runners.runner import Floats

PORTABLE = "x86-f32"
"""The arithmetic that ranges are measured in, so that int8 has the same bits everywhere."""


class RangeRunner(OpenVinoRunner):
    """Computes in portable float32, without packing: the outputs of LayerNorms are outputs of its model, too."""

    def _prepared(self, model: Any, backbone: Backbone) -> Any:
        norms = [node for node in model.get_ordered_ops() if node.get_type_name() == "MVN"]
        ends = {name: end for end in map(end_of_norm, norms) if (name := name_of(end))}
        model.add_outputs(list(ends.values()))
        make_portable(model, backbone.spec.max_tokens)
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
                columns = np.abs(array).reshape(-1, array.shape[-1]).max(axis=0)
                ranges[name] = np.maximum(columns, ranges.get(name, columns))
        return ranges


def measure_precisions(backbone: Backbone) -> list[str]:
    """Add each precision's distance from the expected outputs to `backbone.measured`; return a sentence about each.

    int8's ranges are added where the arithmetic is PORTABLE, and its outputs, by the name of its arithmetic. One thread
    and one stream are enough, as no bit depends on their number.
    """
    graph, measured = read(backbone), backbone.measured

    def apart(
        precision: str, probe: Future[str] | None = None, kind: type[OpenVinoRunner] = OpenVinoRunner
    ) -> float | str:
        try:
            runner = kind(backbone, precision, 1, graph=graph)
            computed = outputs(backbone, runner)
            arithmetic = runner.arithmetic if probe and probe.result() else ""
            if isinstance(runner, RangeRunner) and arithmetic == PORTABLE:
                named = {f"{RANGES}{name}": columns for name, columns in runner.ranges(backbone).items()}
                measured.update({RANGES: np.zeros(1, np.float32)} | named)
            if precision == INT8:
                measured.update({f"{arithmetic}.{name}": array for name, array in computed})
        except RunnerError as error:
            return str(error)
        return farthest(computed, measured)

    with ThreadPoolExecutor(1) as pool:
        # The probes of the names of arithmetics: computed aside, and kept until a runner is asked for its name.
        float32, int8 = (pool.submit(probe_digest, OpenVinoRunner, precision, 1, 1) for precision in (FLOAT32, INT8))
        bfloat16 = pool.submit(apart, BFLOAT16)  # it changes nothing that the other two read
        found = {FLOAT32: apart(FLOAT32, float32, RangeRunner), INT8: apart(INT8, int8), BFLOAT16: bfloat16.result()}
    return [_added(measured, precision, distance) for precision, distance in found.items()]


def _added(measured: dict[str, Floats], precision: str, apart: float | str) -> str:
    """Add a distance to the measurements, unless it is the reason why there is none; return a sentence about it."""
    if isinstance(apart, str):
        return f"{precision}: not measured: {apart}"
    measured[f"{DISTANCE}{precision}"] = np.array([apart], np.float32)
    found = from_float32(apart, measured, precision)
    return f"{precision}: {found}{'; it is refused' if found.is_too_far else ''}"
