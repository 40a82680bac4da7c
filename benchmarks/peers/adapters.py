"""The 27 stock PEFT adapters as arrays, for peers that do not read them as they are."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.peer import Floats
from benchmarks.saf import ADAPTERS

PREFIX = "base_model.model."
HEAD = ("classifier.weight", "classifier.bias")


@dataclass(frozen=True)
class Adapter:
    """One adapter. `tensors`: PEFT's own keys; `scaling`: alpha / r."""

    folder: Path
    config: dict[str, Any]
    tensors: dict[str, Floats]

    @classmethod
    def read(cls, folder: Path) -> Adapter:
        from safetensors.numpy import load_file

        config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        return cls(folder, config, load_file(folder / "adapter_model.safetensors"))

    @property
    def task(self) -> str:
        return self.folder.name

    @property
    def scaling(self) -> float:
        return float(self.config["lora_alpha"] / self.config["r"])

    def deltas(self) -> dict[str, Floats]:
        """Return what each site's weight grows by, float32 [D_out, D_in]: scaling · B @ A."""
        sites = [key.removesuffix(".lora_A.weight") for key in self.tensors if key.endswith(".lora_A.weight")]
        return {
            site.removeprefix(PREFIX): np.float32(self.scaling)
            * (self.tensors[f"{site}.lora_B.weight"] @ self.tensors[f"{site}.lora_A.weight"])
            for site in sites
        }

    def head(self) -> tuple[Floats, Floats]:
        """Return the head's weight, float32 [5, H], and bias, float32 [5]."""
        weight, bias = (self.tensors[PREFIX + name] for name in HEAD)
        return weight, bias

    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.tensors.values())


def adapter_folders() -> list[Path]:
    """Return the folders of the 27 adapters; a folder's name is its task."""
    return sorted(path for path in ADAPTERS.iterdir() if path.is_dir())


def read_all() -> dict[str, Adapter]:
    """Return the 27 adapters by task."""
    return {folder.name: Adapter.read(folder) for folder in adapter_folders()}


def name(task: str) -> str:
    """Return a name that may be part of a torch module's: without dots."""
    return task.replace(".", "_")


def rewritten(
    adapter: Adapter, parent: Path, *, config: dict[str, Any], rename: dict[str, str] | None = None, head: bool = True
) -> Path:
    """Write the adapter into `parent` for a loader that refuses it as it is; return the folder.

    config: keys of adapter_config.json that change; rename: prefixes of tensor names to replace;
    head: whether the head's tensors stay.
    """
    from safetensors.numpy import save_file

    folder = parent / adapter.task
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps({**adapter.config, **config}), encoding="utf-8")
    kept = {
        renamed(key, rename or {}): tensor
        for key, tensor in adapter.tensors.items()
        if head or key.removeprefix(PREFIX) not in HEAD
    }
    save_file(kept, folder / "adapter_model.safetensors")
    return folder


def renamed(key: str, rename: dict[str, str]) -> str:
    """Return the key with the first prefix that fits replaced."""
    for old, new in rename.items():
        if key.startswith(old):
            return new + key.removeprefix(old)
    return key
