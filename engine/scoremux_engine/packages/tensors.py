"""`adapter_model.safetensors`: the tensors of a PEFT adapter, checked against the backbone and made ready to run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from scoremux_engine.backbone import BackboneSpec, HeadLinear, Site, head_inputs, site_inputs
from scoremux_engine.errors import PackageError
from scoremux_engine.packages.adapter_config import AdapterConfig

TENSORS = "adapter_model.safetensors"
_PREFIX = "base_model.model."
Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class AdapterTables:
    """One adapter's tables by the graph's input names, without the leading G.

    A.<site> float32 [D_in, R] and B.<site> float32 [R, D_out], scaling folded into B; sites that the adapter leaves
    alone are absent. weight.<head> float32 [D_in, D_out], bias.<head> float32 [D_out].
    """

    tables: dict[str, Array]

    @property
    def size_bytes(self) -> int:
        return sum(table.nbytes for table in self.tables.values())


def read_tables(folder: Path, config: AdapterConfig, backbone: BackboneSpec, levels: int) -> AdapterTables:
    """Read, check and prepare every tensor. Raises PackageError naming the first that is wrong."""
    path = folder / TENSORS
    pickled = [p.name for p in folder.glob("*.bin")]
    if pickled and not path.exists():
        raise PackageError(f"{folder / pickled[0]} is a pickle file, which is never opened; save as safetensors")
    reader = _Reader(path)
    tables: dict[str, Array] = {}
    for site in backbone.sites:
        tables.update(_site_tables(reader, site, config))
    if not any(name.startswith("A.") for name in tables):
        raise PackageError(f"{path} has no LoRA tensors for any site of this backbone")
    for linear in backbone.head:
        tables.update(_head_tables(reader, linear, levels))
    reader.refuse_leftovers(backbone)
    return AdapterTables(tables)


class _Reader:
    """Takes tensors out of a safetensors file by name and remembers which were taken."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with safe_open(path, framework="np") as file:
                self._shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        except FileNotFoundError as error:
            raise PackageError(f"{path} is missing") from error
        except (SafetensorError, OSError) as error:
            raise PackageError(f"{path} is not a whole safetensors file: {error}") from error
        self._left = set(self._shapes)

    def has(self, name: str) -> bool:
        return name in self._shapes

    def take(self, name: str, shape: tuple[int, ...]) -> Array:
        """Return one tensor as float32. Raises PackageError if it is absent, misshapen or not finite."""
        if name not in self._shapes:
            raise PackageError(f"{self.path} has no {name}")
        if self._shapes[name] != shape:
            raise PackageError(f"{self.path}: {name} has shape {list(self._shapes[name])}, expected {list(shape)}")
        self._left.discard(name)
        array = self._read(name)
        if not np.isfinite(array).all():
            raise PackageError(f"{self.path}: {name} holds NaN or infinity")
        return array

    def _read(self, name: str) -> Array:
        with safe_open(self.path, framework="np") as file:
            kind = file.get_slice(name).get_dtype()
            if kind not in ("F32", "F16", "BF16"):
                raise PackageError(f"{self.path}: {name} is {kind}; F32, F16 and BF16 are read")
            tensor: Any = file.get_tensor(name)
        return np.ascontiguousarray(tensor.astype(np.float32))

    def refuse_leftovers(self, backbone: BackboneSpec) -> None:
        """Raise PackageError for tensors that nothing took: they would change the score in PEFT and not here."""
        if not self._left:
            return
        name = min(self._left)
        site = name.removeprefix(_PREFIX).rpartition(".lora_")[0]
        if site and name.endswith((".lora_A.weight", ".lora_B.weight")):
            opened = sorted({s.name.rpartition(".")[2] for s in backbone.sites})
            needed = ",".join(sorted({*opened, site.rpartition(".")[2]}))
            raise PackageError(
                f"{self.path} needs the site {site}, which this backbone keeps closed (open: {', '.join(opened)}); "
                f"export the backbone with --sites {needed}"
            )
        raise PackageError(f"{self.path}: {name} fits nothing in this backbone")


def _site_tables(reader: _Reader, site: Site, config: AdapterConfig) -> dict[str, Array]:
    """Return A = lora_A.T and B = scaling · lora_B.T, so that x @ A @ B is PEFT's delta."""
    a_name, b_name = (f"{_PREFIX}{site.name}.lora_{side}.weight" for side in "AB")
    if not reader.has(a_name) and not reader.has(b_name):
        return {}
    rank = config.rank(site.name)
    a = reader.take(a_name, (rank, site.d_in))
    b = reader.take(b_name, (site.d_out, rank))
    scaled = b.T * np.float32(config.scaling(site.name))
    a_input, b_input = site_inputs(site.name)
    return {a_input: np.ascontiguousarray(a.T), b_input: np.ascontiguousarray(scaled)}


def _head_tables(reader: _Reader, linear: HeadLinear, levels: int) -> dict[str, Array]:
    width = levels if linear.d_out is None else linear.d_out
    name = f"{_PREFIX}{linear.name}"
    weight = reader.take(f"{name}.weight", (width, linear.d_in))
    bias = reader.take(f"{name}.bias", (width,)) if reader.has(f"{name}.bias") else np.zeros(width, np.float32)
    weight_input, bias_input = head_inputs(linear.name)
    return {weight_input: np.ascontiguousarray(weight.T), bias_input: bias}
