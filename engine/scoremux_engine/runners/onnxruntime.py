"""The reference runner: ONNX Runtime in this process, in float32 on the CPU."""

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

# From 1.32 on it reports to Microsoft; this variable prevents it, disable_telemetry_events() comes too late.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime

from scoremux_engine.errors import RunnerError
from scoremux_engine.model.backbone import REDUCED, Backbone
from scoremux_engine.model.provenance import library_arithmetic
from scoremux_engine.model.tables import Tables
from scoremux_engine.runners.arithmetic import name_of, probe_digest
from scoremux_engine.runners.runner import BackboneRunner, Floats, RowInputs, Streams

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}

TF32 = "tf32"
"""Inputs of float32 products are rounded to 11 bits, which is the CUDA provider's own default."""


class OnnxRuntimeRunner(BackboneRunner):
    """Runs `backbone.onnx`.

    device: ``cpu``, ``cuda`` or ``tensorrt``: the execution provider. One that is absent is an error, never replaced.
    threads and streams: on the CPU, as `Streams.of` takes them; a GPU runs one micro-batch after the other.
    precision: ``float32``; on a GPU also ``tf32`` and those of `REDUCED`, which have graphs of their own.
    graph: another graph with the inputs and outputs of `backbone.onnx`.
    """

    anytime = True

    def __init__(
        self,
        backbone: Backbone,
        device: str = "cpu",
        threads: int | None = None,
        streams: int | None = None,
        *,
        precision: str = "float32",
        graph: Path | None = None,
    ) -> None:
        self.precision = precision
        shared = Streams.of(threads, streams if device == "cpu" else 1)
        self.overlap = self.streams = shared.count
        self._device, self._threads = device, shared.threads
        options = onnxruntime.SessionOptions()
        # Each call computes on the thread it comes from; with more than one, they share a pool of the others.
        options.intra_op_num_threads = shared.threads
        # Micro-batches differ in shape all the time; an arena tuned to one shape only grows.
        options.enable_mem_pattern = False
        provider = _available(device)
        self.in_place = self.express = device == "cpu"
        graph = graph or _graph(backbone, precision)
        tf32 = {"use_tf32": str(int(precision == TF32))} if device == "cuda" else {}
        self._kept = backbone.spec.kept
        try:
            self._session = onnxruntime.InferenceSession(str(graph), options, providers=[(provider, tf32)])
        except Exception as error:  # onnxruntime raises many unrelated types
            raise RunnerError(f"ONNX Runtime cannot load {graph}: {error}") from error
        if self._session.get_providers()[0] != provider:
            raise RunnerError(f"{provider} did not start on this machine, and nothing else takes its place")

    @cached_property
    def arithmetic(self) -> str:
        """See `BackboneRunner`. A GPU is named by its model: nothing is measured there."""
        likely = library_arithmetic("onnxruntime", self.precision, self._device)
        if self._device != "cpu":
            return likely
        return name_of(likely, probe_digest(OnnxRuntimeRunner, "cpu", self._threads * self.streams, self.streams))

    def _compute(self, rows: RowInputs, tables: Tables, outputs: list[str]) -> Sequence[Floats]:
        computed: list[Floats] = self._session.run(outputs, {**rows.feeds, **tables.arrays})
        return computed


def _graph(backbone: Backbone, precision: str) -> Path:
    if precision in ("float32", TF32):
        return backbone.onnx
    if precision not in REDUCED:
        raise RunnerError(f"precision is {precision!r}; ONNX Runtime computes in float32, {TF32}, {', '.join(REDUCED)}")
    graph = backbone.folder / REDUCED[precision]
    if not graph.is_file():
        command = f"scoremux export reduced {backbone.folder.parents[1]} --precision {precision}"
        raise RunnerError(f"{graph} is missing: run `{command}`")
    return graph


def _available(device: str) -> str:
    if device not in PROVIDERS:
        raise RunnerError(f"device is {device!r}; ONNX Runtime runs on {', '.join(PROVIDERS)}")
    provider = PROVIDERS[device]
    if provider not in onnxruntime.get_available_providers():
        raise RunnerError(
            f"this onnxruntime has no {provider}; on a machine with a GPU, pip uninstall onnxruntime, "
            "then pip install 'scoremux[gpu]'"
        )
    return provider
