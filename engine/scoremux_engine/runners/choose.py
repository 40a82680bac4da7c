"""Which runner to make: by name, device and precision, as a profile or a caller says."""

from __future__ import annotations

from dataclasses import dataclass

from scoremux_engine.errors import RunnerError
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.runners.runner import BackboneRunner

RUNNERS = ("onnxruntime", "openvino", "tensorrt")


@dataclass(frozen=True)
class RunnerChoice:
    """name: one of RUNNERS; device: for onnxruntime; precision: for openvino, and for tensorrt it is the plan's own.

    threads: on the CPU, None for all cores; streams: micro-batches computed at once, None for one a thread.
    """

    name: str = "onnxruntime"
    device: str = "cpu"
    precision: str = "float32"
    threads: int | None = None
    streams: int | None = None

    def arithmetic(self, precision: str) -> str:
        """Return what rows say they were computed with, at the precision that the runner has."""
        return f"{self.name}-{self.device}-{precision}"

    def make(self, backbone: Backbone) -> BackboneRunner:
        """Load the backbone. Raises RunnerError for what is not offered or not there."""
        # Imported here: a runner's library is needed only where that runner is used.
        if self.name == "onnxruntime":
            from scoremux_engine.runners.onnxruntime import OnnxRuntimeRunner

            if self.precision not in ("float32", "auto"):
                raise RunnerError(f"the onnxruntime runner computes in float32 only, not {self.precision}")
            return OnnxRuntimeRunner(backbone, self.device, self.threads, self.streams)
        if self.name == "openvino":
            from scoremux_engine.runners.openvino import OpenVinoRunner

            return OpenVinoRunner(backbone, self.precision, self.threads, self.streams)
        if self.name == "tensorrt":
            from scoremux_engine.runners.tensorrt import TensorRtRunner

            return TensorRtRunner(backbone)
        raise RunnerError(f"runner is {self.name!r}; there are {', '.join(RUNNERS)}")


REFERENCE = RunnerChoice()
"""ONNX Runtime, float32, on the CPU: what the others are measured against."""

ON_CPU = (REFERENCE, *(RunnerChoice("openvino", precision=p) for p in ("float32", "bfloat16", "int8")))
"""Every runner and precision on the CPU; a processor may not compute all of them."""
