"""AdapterHub's `adapters`, converted: each batch split by task (`BatchSplit`)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.child import Floats
from benchmarks.data import TENSORS, Labelled, example_adapters, minilm, module_name
from benchmarks.peers import batches
from benchmarks.peers.base import Batched, Peer

PACKAGES = ("adapters==1.3.0",)
PEERS = (Peer("AdapterHub BatchSplit", "adapterhub:AdapterHub", {}, PACKAGES),)
SITES = {"query": "q", "value": "v"}
PREFIX = "base_model.model."


@dataclass(frozen=True)
class Adapter:
    """A stock PEFT adapter. tensors: by PEFT's own keys."""

    config: dict[str, Any]
    tensors: dict[str, Floats]

    @classmethod
    def read(cls, folder: Path) -> Adapter:
        from safetensors.numpy import load_file

        return cls(json.loads((folder / "adapter_config.json").read_bytes()), load_file(folder / TENSORS))

    def head(self) -> tuple[Floats, Floats]:
        """Return the head's weight, float32 [5, H], and bias, float32 [5]."""
        return self.tensors[f"{PREFIX}classifier.weight"], self.tensors[f"{PREFIX}classifier.bias"]


class Heads:
    """The 27 heads, stacked, for peers that stop at the pooled representation."""

    def __init__(self, adapters: Mapping[str, Adapter]) -> None:
        pairs = [adapter.head() for adapter in adapters.values()]
        self._weight = np.stack([weight for weight, _ in pairs])
        self._bias = np.stack([bias for _, bias in pairs])
        self._slot = {task: slot for slot, task in enumerate(adapters)}

    def of(self, pooled: Floats, tasks: Sequence[str]) -> Floats:
        """logits[i] = pooled[i] @ W[task[i]].T + b[task[i]]: float32 [B, H] → [B, 5]."""
        slots = [self._slot[task] for task in tasks]
        logits: Floats = np.einsum("bh,blh->bl", pooled, self._weight[slots]) + self._bias[slots]
        return logits


class AdapterHub(Batched):
    """Rows of many tasks in one batch, next to each other by task."""

    def __init__(self, scratch: str) -> None:  # noqa: ARG002
        import adapters as hub

        super().__init__()
        self._hub: Any = hub
        self._model: Any = hub.AutoAdapterModel.from_pretrained(str(minilm()))
        adapters = {folder.name: Adapter.read(folder) for folder in example_adapters()}
        for task, adapter in adapters.items():
            self._add(module_name(task), adapter)
        self._heads = Heads(adapters)
        self._model.eval()

    def _add(self, task: str, adapter: Adapter) -> None:
        import torch

        config = adapter.config
        sites = [SITES[site] for site in config["target_modules"]]
        lora = self._hub.LoRAConfig(r=config["r"], alpha=config["lora_alpha"], attn_matrices=sites)
        self._model.add_adapter(task, config=lora)
        parameters = dict(self._model.named_parameters())
        with torch.no_grad():
            for key, tensor in adapter.tensors.items():
                if ".lora_" in key:
                    site, _, matrix = key.removeprefix(PREFIX).removesuffix(".weight").rpartition(".")
                    parameters[f"{site}.loras.{task}.{matrix}"].copy_(torch.from_numpy(tensor))

    def parts(self, rows: Sequence[Labelled], ids: Sequence[list[int]]) -> list[list[int]]:
        parts = batches.by_length([len(i) for i in ids], self.setting.rows)
        return [sorted(part, key=lambda i: rows[i].task) for part in parts]

    def run(self, tasks: Sequence[str], ids: Sequence[list[int]]) -> Floats:
        import torch

        order = list(dict.fromkeys(tasks))
        array, mask = map(torch.from_numpy, batches.padded(ids))
        sizes = [list(tasks).count(task) for task in order]
        names = list(map(module_name, order))
        self._model.set_active_adapters(self._hub.BatchSplit(*names, batch_sizes=sizes) if len(names) > 1 else names[0])
        # Its own heads would each get the pooler's output of the whole batch, not of their rows.
        self._model.active_head = None
        with torch.inference_mode():
            pooled = self._model(input_ids=array, attention_mask=mask)[1]
        return self._heads.of(np.asarray(pooled.numpy()), tasks)
