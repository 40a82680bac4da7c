"""ONNX Runtime's `LoraAdapter`: one session whose LoRA weights are inputs, one adapter for each group of rows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers import batches, graphs
from benchmarks.peers.adapters import HEAD, PREFIX, Adapter, read_all
from benchmarks.peers.aside import aside
from benchmarks.peers.base import classifier
from benchmarks.peers.peer import Floats
from benchmarks.peers.sessions import onnxruntime_session
from benchmarks.saf import SafRow
from scoremux_engine.runners.streams import available_cores

OPEN = "open.onnx"


def graph_name(key: str) -> str:
    """Return the parameter's name in a PEFT model, whose only adapter is `default`, for a key of the adapter's file."""
    if key.removeprefix(PREFIX) in HEAD:
        return key.replace("classifier.", "classifier.modules_to_save.default.")
    return key.replace(".weight", ".default.weight")


class LoraAdapters:
    """27 `LoraAdapter`s beside one session, which runs a batch on each core; heads travel with them."""

    def __init__(self, scratch: str) -> None:
        import onnxruntime

        adapters = read_all()
        folder = Path(scratch) / "lora_adapter"
        graph = folder / OPEN
        if not graph.exists():
            aside("benchmarks.peers.onnxruntime_adapters:write_graph", folder)
        self._session: Any = onnxruntime_session(graph, threads=1)
        self._options = {}
        self._kept = []
        for task, adapter in adapters.items():
            loaded = onnxruntime.LoraAdapter()
            loaded.Load(str(write(adapter, folder / f"{task}.onnx_adapter")))
            options = onnxruntime.RunOptions()
            options.add_active_adapter(loaded)
            self._options[task] = options
            self._kept.append(loaded)
        self._bytes = graph.stat().st_size + sum(adapter.nbytes() for adapter in adapters.values())
        self._tokens = batches.TokenIds()
        self.pid = os.getpid()

    def logits(self, rows: Sequence[SafRow]) -> Floats:
        ids = self._tokens.of(rows)
        parts = batches.by_task_and_length(rows, ids)

        def run(number: int) -> Floats:
            task, part = parts[number]
            array, mask = batches.padded([ids[i] for i in part])
            feed = {"input_ids": array, "attention_mask": mask}
            return np.asarray(self._session.run(["logits"], feed, self._options[task])[0])

        return batches.scattered(len(rows), [part for _, part in parts], run, available_cores())

    def weights_bytes(self) -> int:
        return self._bytes

    def close(self) -> None: ...


def write_graph(folder: Path) -> None:
    """Write MiniLM with one adapter's LoRA weights and head as inputs that have defaults."""
    import peft

    first = next(iter(read_all().values()))
    model = peft.PeftModel.from_pretrained(classifier(attn_implementation="eager"), str(first.folder)).eval()
    graphs.export(model, folder / "base.onnx")
    graphs.open_parameters(folder / "base.onnx", map(graph_name, first.tensors), folder / OPEN)


def write(adapter: Adapter, path: Path) -> Path:
    """Write the adapter in ONNX Runtime's own format; return the path."""
    import onnxruntime

    values = {
        graphs.WRAPPED + graph_name(key): onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(tensor))
        for key, tensor in adapter.tensors.items()
    }
    made = onnxruntime.AdapterFormat()
    made.set_adapter_version(1)
    made.set_model_version(1)
    made.set_parameters(values)
    made.export_adapter(str(path))
    return path
