"""The 27 stock PEFT adapters as arrays, for peers that do not read them as they are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.child import Floats
from benchmarks.data import TENSORS, example_adapters

PREFIX = "base_model.model."
HEAD = ("classifier.weight", "classifier.bias")


@dataclass(frozen=True)
class Adapter:
    """One adapter. `tensors`: PEFT's own keys."""

    folder: Path
    config: dict[str, Any]
    tensors: dict[str, Floats]

    @classmethod
    def read(cls, folder: Path) -> Adapter:
        from safetensors.numpy import load_file

        config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        return cls(folder, config, load_file(folder / TENSORS))

    @property
    def task(self) -> str:
        return self.folder.name

    def deltas(self) -> dict[str, Floats]:
        """Return what each site's weight grows by, float32 [D_out, D_in]: alpha / r · B @ A."""
        scaling = np.float32(self.config["lora_alpha"] / self.config["r"])
        sites = [key.removesuffix(".lora_A.weight") for key in self.tensors if key.endswith(".lora_A.weight")]
        return {
            site.removeprefix(PREFIX): scaling
            * (self.tensors[f"{site}.lora_B.weight"] @ self.tensors[f"{site}.lora_A.weight"])
            for site in sites
        }

    def head(self) -> tuple[Floats, Floats]:
        """Return the head's weight, float32 [5, H], and bias, float32 [5]."""
        weight, bias = (self.tensors[PREFIX + name] for name in HEAD)
        return weight, bias


def read_all() -> dict[str, Adapter]:
    """Return the 27 adapters by task."""
    return {folder.name: Adapter.read(folder) for folder in example_adapters()}


def module_name(task: str) -> str:
    """Return a name that may be part of a torch module's: without dots."""
    return task.replace(".", "_")


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
