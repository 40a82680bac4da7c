"""ONNX Runtime's `LoraAdapter`: one session whose LoRA weights are inputs, one adapter for each group of rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.child import Floats, call_aside
from benchmarks.peers import batches, merged
from benchmarks.peers.adapters import HEAD, PREFIX, Adapter, read_all
from benchmarks.peers.base import GROUPS, LIBRARY, Batched, Peer, classifier

PEERS = (
    Peer(
        "ONNX Runtime LoraAdapter",
        "onnxruntime_adapters:LoraAdapters",
        cannot=f"{LIBRARY}; {GROUPS}; adapters must be converted",
        rounds=0,
    ),
)


def graph_name(key: str) -> str:
    """Return the parameter's name in a PEFT model, whose only adapter is `default`, for a key of the adapter's file."""
    if key.removeprefix(PREFIX) in HEAD:
        return key.replace("classifier.", "classifier.modules_to_save.default.")
    return key.replace(".weight", ".default.weight")


class LoraAdapters(Batched):
    """27 `LoraAdapter`s beside one session, which runs a batch on each core; heads travel with them."""

    at_once = merged.CORES

    def __init__(self, scratch: str) -> None:
        import onnxruntime

        super().__init__()
        adapters, folder = read_all(), Path(scratch) / "lora_adapter"
        graph = folder / "open.onnx"
        if not graph.exists():
            call_aside("benchmarks.peers.onnxruntime_adapters:write_graph", folder)
        one_thread = onnxruntime.SessionOptions()
        one_thread.intra_op_num_threads = 1
        self._session: Any = onnxruntime.InferenceSession(str(graph), one_thread, providers=["CPUExecutionProvider"])
        self._options, self._kept = {}, []
        for task, adapter in adapters.items():
            loaded = onnxruntime.LoraAdapter()
            loaded.Load(str(write(adapter, folder / f"{task}.onnx_adapter")))
            options = onnxruntime.RunOptions()
            options.add_active_adapter(loaded)
            self._options[task] = options
            self._kept.append(loaded)
        self.weights = graph.stat().st_size + sum(adapter.nbytes() for adapter in adapters.values())

    def run(self, tasks: Sequence[str], ids: Sequence[list[int]]) -> Floats:
        array, mask = batches.padded(ids)
        feed = {"input_ids": array, "attention_mask": mask}
        return np.asarray(self._session.run(["logits"], feed, self._options[tasks[0]])[0])


def write_graph(folder: str) -> None:
    """Write MiniLM with one adapter's LoRA weights and head as inputs that have defaults."""
    import peft

    first = next(iter(read_all().values()))
    model = peft.PeftModel.from_pretrained(classifier(attn_implementation="eager"), str(first.folder)).eval()
    merged.export(model, Path(folder) / "base.onnx")
    merged.open_parameters(Path(folder) / "base.onnx", map(graph_name, first.tensors), Path(folder) / "open.onnx")


def write(adapter: Adapter, path: Path) -> Path:
    """Write the adapter in ONNX Runtime's own format; return the path."""
    import onnxruntime

    values = {
        merged.WRAPPED + graph_name(key): onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(tensor))
        for key, tensor in adapter.tensors.items()
    }
    made = onnxruntime.AdapterFormat()
    made.set_adapter_version(1)
    made.set_model_version(1)
    made.set_parameters(values)
    made.export_adapter(str(path))
    return path
