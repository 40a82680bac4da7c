"""The fast CPU runner: OpenVINO, in this process, in float32, bfloat16 or int8."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino

from scoremux_engine import backbone as names
from scoremux_engine.backbone import Backbone
from scoremux_engine.errors import RunnerError
from scoremux_engine.tables import Tables

PRECISIONS = ("float32", "bfloat16", "int8")
AUTO = "auto"

# Activations are quantised per token in groups of this many columns: a scale of its own keeps a row's bits its own.
_GROUP_COLUMNS = 128


class OpenVinoRunner:
    """Runs `backbone.onnx` on the CPU.

    precision: ``float32``; ``bfloat16`` (matrix products in bfloat16, sums in float32); ``int8`` (weights in int8,
    activations quantised as they come, in groups); ``auto``: bfloat16 where the processor computes it natively, else
    float32. threads: default the cores this process may use.
    """

    overlap = 1

    def __init__(self, backbone: Backbone, precision: str = AUTO, threads: int | None = None) -> None:
        self.precision = resolve(precision)
        core = openvino.Core()
        model = core.read_model(backbone.onnx)
        if self.precision == "int8":
            model = _with_int8_weights(model)
        try:
            compiled = core.compile_model(model, "CPU", _options(self.precision, threads))
        except RuntimeError as error:
            raise RunnerError(f"OpenVINO cannot compile {backbone.onnx}: {error}") from error
        self._request = compiled.create_infer_request()

    def run(
        self,
        input_ids: npt.NDArray[np.int64],
        attention_mask: npt.NDArray[np.int64],
        group: npt.NDArray[np.int64],
        tables: Tables,
    ) -> npt.NDArray[np.float32]:
        """See `BackboneRunner.run`."""
        rows = len(group)
        if rows == 1 and self.precision == "int8":
            # A lone row takes another int8 kernel whose last bits differ; two rows take the one that all others take.
            input_ids, attention_mask, group = (np.repeat(a, 2, axis=0) for a in (input_ids, attention_mask, group))
        feeds: dict[str, Any] = {
            names.INPUT_IDS: input_ids,
            names.ATTENTION_MASK: attention_mask,
            names.GROUP: group,
            **tables.arrays,
        }
        results = self._request.infer(feeds, share_inputs=True)
        return np.array(results[0][:rows], dtype=np.float32)


def resolve(precision: str, cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return the precision that `precision` means on this processor. Raises RunnerError for one that is not offered."""
    if precision == AUTO:
        flags = set(cpuinfo.read_text(encoding="utf-8").split())
        return "bfloat16" if flags & {"avx512_bf16", "amx_bf16"} else "float32"
    if precision not in PRECISIONS:
        raise RunnerError(f"precision is {precision!r}; OpenVINO runs {', '.join((AUTO, *PRECISIONS))}")
    return precision


def _options(precision: str, threads: int | None) -> dict[str, Any]:
    return {
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" else "f32",
        "INFERENCE_NUM_THREADS": threads or len(os.sched_getaffinity(0)),
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": _GROUP_COLUMNS if precision == "int8" else 0,
    }


def _with_int8_weights(model: Any) -> Any:
    import nncf

    logging.getLogger("nncf").setLevel(logging.ERROR)
    return nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_SYM)
