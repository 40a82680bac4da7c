"""Which runner to make: by name, device and precision, as a profile or a caller says."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from scoremux_engine.errors import RunnerError
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.runners.runner import BackboneRunner
from scoremux_files.settings import read_toml

RUNNERS = ("onnxruntime", "openvino")


@dataclass(frozen=True)
class RunnerChoice:
    """name: one of RUNNERS; device: for onnxruntime; precision: for openvino, and for onnxruntime on a GPU.

    threads: on the CPU, None for all cores; streams: micro-batches computed at once, None for one a thread.
    """

    name: str = "openvino"
    device: str = "cpu"
    precision: str = "float32"
    threads: int | None = None
    streams: int | None = None

    @classmethod
    def of(cls, parameters: Mapping[str, str]) -> "RunnerChoice":
        """Return the choice that parameters of a Triton model are; 0 stands for None."""
        return cls(
            parameters.get("runner", DEFAULT.name),
            parameters.get("device", DEFAULT.device),
            parameters.get("precision", DEFAULT.precision),
            threads=int(parameters.get("threads", "0")) or None,
            streams=int(parameters.get("streams", "0")) or None,
        )

    @property
    def parameters(self) -> dict[str, str]:
        """The choice as parameters of a Triton model, as `of` reads them."""
        return {
            "runner": self.name,
            "device": self.device,
            "precision": self.precision,
            "threads": str(self.threads or 0),
            "streams": str(self.streams or 0),
        }

    def make(self, backbone: Backbone) -> BackboneRunner:
        """Load the backbone. Raises RunnerError for a runner that is not offered or not installed."""
        # Imported here: a runner's library is needed only where that runner is used.
        if self.name == "onnxruntime":
            from scoremux_engine.runners.device import DeviceRunner
            from scoremux_engine.runners.onnxruntime import OnnxRuntimeRunner

            if self.device == "cuda":
                return DeviceRunner(backbone, self.device, self.precision)
            if self.precision != "float32":
                raise RunnerError(f"onnxruntime computes in float32 only on the {self.device}, not in {self.precision}")
            return OnnxRuntimeRunner(backbone, self.device, self.threads, self.streams)
        if self.name == "openvino":
            try:
                from scoremux_engine.runners.openvino import OpenVinoRunner
            except ImportError as error:
                raise RunnerError("openvino is not installed: pip install openvino") from error

            return OpenVinoRunner(backbone, self.precision, self.threads, self.streams)
        raise RunnerError(f"runner is {self.name!r}; there are {', '.join(RUNNERS)}")


DEFAULT = RunnerChoice()
"""OpenVINO, float32."""

REFERENCE = RunnerChoice("onnxruntime")
"""ONNX Runtime, float32, on the CPU: what the others are measured against."""

ON_CPU = (REFERENCE, *(RunnerChoice(precision=p) for p in ("float32", "bfloat16", "int8")))
"""Every runner and precision on the CPU; a processor may not compute all of them."""

PROFILE = "profile.toml"
"""The file in a repository that says how it is served."""


def choice_of(repository: Path) -> RunnerChoice:
    """Return the runner of a repository by its `profile.toml`, else DEFAULT. Raises RunnerError.

    Threads are left out, as no bit depends on them. ONNX Runtime stands in for a model that Triton itself serves.
    """
    file = repository / PROFILE
    values = read_toml(file, RunnerError) if file.is_file() else {}
    chosen: dict[str, Any] = {key: values[key] for key in ("runner", "device", "precision") if key in values}
    choice = RunnerChoice.of(chosen)
    return replace(choice, name="onnxruntime") if choice.name == "triton" else choice
