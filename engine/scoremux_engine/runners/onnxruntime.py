"""The reference runner: ONNX Runtime, float32, in this process."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from scoremux_engine import backbone as names
from scoremux_engine.backbone import Backbone
from scoremux_engine.errors import RunnerError
from scoremux_engine.tables import Tables


class OnnxRuntimeRunner:
    """Runs `backbone.onnx` on the CPU with `threads` threads (default: the cores this process may use)."""

    def __init__(self, backbone: Backbone, threads: int | None = None) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or len(os.sched_getaffinity(0))
        # Micro-batches differ in shape all the time; an arena tuned to one shape only grows.
        options.enable_mem_pattern = False
        try:
            self._session = onnxruntime.InferenceSession(
                str(backbone.onnx), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime raises many unrelated types
            raise RunnerError(f"ONNX Runtime cannot load {backbone.onnx}: {error}") from error

    def run(
        self,
        input_ids: npt.NDArray[np.int64],
        attention_mask: npt.NDArray[np.int64],
        group: npt.NDArray[np.int64],
        tables: Tables,
    ) -> npt.NDArray[np.float32]:
        """See `BackboneRunner.run`."""
        feeds: dict[str, Any] = {
            names.INPUT_IDS: input_ids,
            names.ATTENTION_MASK: attention_mask,
            names.GROUP: group,
            **tables.arrays,
        }
        logits: npt.NDArray[np.float32] = self._session.run([names.LOGITS], feeds)[0]
        return logits
