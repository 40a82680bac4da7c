"""ONNX graph → TensorRT plan through TensorRT's Python API: strongly typed, so precision is the graph's own."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scoremux_export.errors import ExportError

Shape = tuple[int, ...]
Profile = dict[str, tuple[Shape, Shape, Shape]]
"""Input name → smallest, likeliest and largest shape."""


MODULES = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
"""Runtime → Python module. Triton serves plans of the first; the second builds without a GPU, which proves a graph."""


@dataclass(frozen=True)
class BuiltPlan:
    """content: the plan; version: TensorRT's; inspected: its inspector's text, profile after profile."""

    content: Any
    version: str
    inspected: str


def load_runtime(runtime: str) -> Any:
    """Return TensorRT's Python module. Raises ExportError where the runtime is unknown or not installed."""
    if runtime not in MODULES:
        raise ExportError(f"runtime is {runtime!r}; a plan is built with {' or '.join(MODULES)}")
    try:
        return importlib.import_module(MODULES[runtime])
    except ImportError as error:
        where = "it comes with NVIDIA's Triton containers"
        raise ExportError(f"the Python module {MODULES[runtime]} is not installed: {where} ({error})") from error


def build_plan(graph: Path, profiles: Sequence[Profile], runtime: str, capabilities: Sequence[str]) -> BuiltPlan:
    """Build a plan.

    Args:
        profiles: The optimisation profiles, in order.
        runtime: `tensorrt`, which needs the GPU that will run the plan, or `tensorrt-rtx`, which needs none.
        capabilities: For `tensorrt-rtx`, compute capabilities such as `8.9`.

    Raises:
        ExportError: The runtime is not installed, or refuses the graph; the message has its errors.
    """
    trt = load_runtime(runtime)
    log = _log(trt)
    builder = _checked(trt.Builder(log), log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(graph)):
        errors = "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))
        raise ExportError(f"TensorRT cannot read {graph}: {errors}")
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if runtime == "tensorrt-rtx":
        config.num_compute_capabilities = len(capabilities)
        for number, capability in enumerate(capabilities):
            config.set_compute_capability(_capability(trt, capability), number)
    for shapes in profiles:
        profile = builder.create_optimization_profile()
        for name, (smallest, likeliest, largest) in shapes.items():
            profile.set_shape(name, smallest, likeliest, largest)
        if config.add_optimization_profile(profile) < 0:
            raise ExportError(f"TensorRT refuses a profile: {log.errors()}")
    plan = _checked(builder.build_serialized_network(network, config), log)
    return BuiltPlan(plan, str(trt.__version__), log.inspected())


def _capability(trt: Any, capability: str) -> Any:
    by_name = {
        name[2:-1] + "." + name[-1]: value
        for name, value in trt.ComputeCapability.__members__.items()
        if name[-1].isdigit()
    }
    if capability not in by_name:
        raise ExportError(f"compute capability is {capability!r}; TensorRT for RTX builds for {', '.join(by_name)}")
    return by_name[capability]


def _checked(result: Any, log: Any) -> Any:
    if result is None:
        raise ExportError(f"TensorRT could not build the plan: {log.errors()}")
    return result


def _log(trt: Any) -> Any:
    """Return a logger that keeps errors, and what the inspector says: without a GPU no plan can be opened to ask it."""

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self._errors: list[str] = []
            self._inspected: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                self._errors.append(message)
            elif message.startswith("Layers:\n"):
                self._inspected.append(message)

        def errors(self) -> str:
            return "; ".join(self._errors[-5:]) or "it gave no reason"

        def inspected(self) -> str:
            return "\n".join(self._inspected)

    return Log()
