"""AdapterHub's `adapters`, converted: each batch split by task (`BatchSplit`), or one adapter active at a time."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.peers import batches
from benchmarks.peers.adapters import PREFIX, Adapter, name, read_all
from benchmarks.peers.base import tensor_bytes
from benchmarks.peers.heads import Heads
from benchmarks.peers.peer import LEVELS, Floats
from benchmarks.saf import SafRow, minilm

SITES = {"query": "q", "value": "v"}


def parameter_name(key: str, adapter: str) -> str:
    """Return the name in AdapterHub's model of a LoRA tensor's key in PEFT's file."""
    site, _, matrix = key.removeprefix(PREFIX).removesuffix(".weight").rpartition(".")
    return f"{site}.loras.{adapter}.{matrix}"


class AdapterHub:
    """split: rows of many tasks in one batch, next to each other by task; else batches of one task each."""

    def __init__(self, scratch: str, split: bool = True) -> None:  # noqa: ARG002
        import adapters as hub

        self._hub: Any = hub
        self._model: Any = hub.AutoAdapterModel.from_pretrained(str(minilm()))
        adapters = read_all()
        for task, adapter in adapters.items():
            self._add(name(task), adapter)
        self._heads = Heads(adapters)
        self._model.eval()
        self._split = split
        self._tokens = batches.TokenIds()
        self.pid = os.getpid()

    def _add(self, task: str, adapter: Adapter) -> None:
        import torch

        config = adapter.config
        lora = self._hub.LoRAConfig(
            r=config["r"], alpha=config["lora_alpha"], attn_matrices=[SITES[site] for site in config["target_modules"]]
        )
        self._model.add_adapter(task, config=lora)
        self._model.add_classification_head(task, num_labels=LEVELS, layers=1, use_pooler=True)
        parameters = dict(self._model.named_parameters())
        weight, bias = adapter.head()
        linear = next(part for part in self._model.heads[task] if isinstance(part, torch.nn.Linear))
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(weight))
            linear.bias.copy_(torch.from_numpy(bias))
            for key, tensor in adapter.tensors.items():
                if ".lora_" in key:
                    parameters[parameter_name(key, task)].copy_(torch.from_numpy(tensor))

    def logits(self, rows: Sequence[SafRow]) -> Floats:
        ids = self._tokens.of(rows)
        if self._split:
            parts = batches.by_length([len(i) for i in ids], rows_most=128, tokens_most=8192)
            parts = [sorted(part, key=lambda i: rows[i].task) for part in parts]
        else:
            parts = [part for _, part in batches.by_task_and_length(rows, ids)]
        return batches.scattered(len(rows), parts, lambda number: self._run(rows, ids, parts[number]))

    def _run(self, rows: Sequence[SafRow], ids: Sequence[list[int]], part: list[int]) -> Floats:
        import torch

        tasks = [rows[i].task for i in part]
        order = list(dict.fromkeys(tasks))
        array, mask = map(torch.from_numpy, batches.padded([ids[i] for i in part]))
        if self._split and len(order) > 1:
            sizes = [tasks.count(task) for task in order]
            self._model.set_active_adapters(self._hub.BatchSplit(*map(name, order), batch_sizes=sizes))
            # Its own heads would each get the pooler's output of the whole batch, not of their rows.
            self._model.active_head = None
            with torch.inference_mode():
                pooled = self._model(input_ids=array, attention_mask=mask)[1]
            return self._heads.of(np.asarray(pooled.numpy()), tasks)
        self._model.set_active_adapters(name(order[0]))
        self._model.active_head = name(order[0])
        with torch.inference_mode():
            return np.asarray(self._model(input_ids=array, attention_mask=mask).logits.numpy())

    def weights_bytes(self) -> int:
        return tensor_bytes(self._model)

    def close(self) -> None: ...
