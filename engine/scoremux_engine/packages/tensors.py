"""`adapter_model.safetensors`: the tensors of a PEFT adapter, checked against the backbone and made ready to run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401  (tells numpy what bfloat16 is)
import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from scoremux_engine.backbone import (
    Backbone,
    BackboneSpec,
    HeadLinear,
    Site,
    bias_input,
    head_inputs,
    magnitude_input,
    site_inputs,
)
from scoremux_engine.errors import PackageError
from scoremux_engine.packages.adapter_config import AdapterConfig

TENSORS = "adapter_model.safetensors"
_PREFIX = "base_model.model."
Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class AdapterTables:
    """One adapter's tables by the graph's input names, without the leading G.

    A.<site> float32 [D_in, R] and B.<site> float32 [R, D_out], scaling folded into B; M.<site> and bias.<site> float32
    [D_out] where the adapter is DoRA or has biases; sites that the adapter leaves alone are absent.
    weight.<head> float32 [D_in, D_out], bias.<head> float32 [D_out].
    """

    tables: dict[str, Array]

    @property
    def size_bytes(self) -> int:
        return sum(table.nbytes for table in self.tables.values())


def read_tables(folder: Path, config: AdapterConfig, backbone: Backbone, levels: int) -> AdapterTables:
    """Read, check and prepare every tensor. Raises PackageError naming the first that is wrong."""
    reader = _Reader(_tensor_file(folder))
    tables: dict[str, Array] = {}
    for site in backbone.spec.sites:
        tables.update(_site_tables(reader, site, config, backbone))
    if not any(name.startswith("A.") for name in tables):
        raise PackageError(reader.why_no_sites(backbone.spec))
    for linear in backbone.spec.head:
        tables.update(_head_tables(reader, linear, levels))
    reader.refuse_leftovers(backbone.spec)
    for name, table in tables.items():
        # Finite tensors can still overflow in what is made of them: a scaling, a norm of zero.
        if not np.isfinite(table).all():
            raise PackageError(f"{reader.path}: {name} holds NaN or infinity once scaled")
    return AdapterTables(tables)


def _tensor_file(folder: Path) -> Path:
    path = folder / TENSORS
    if not path.exists():
        for other in sorted(folder.glob("adapter_model*")):
            if other.suffix == ".bin":
                raise PackageError(f"{other} is a pickle file, which is never opened; save as safetensors")
            if other.name.endswith(".index.json"):
                raise PackageError(f"{other} belongs to a sharded adapter; save it as one {TENSORS}")
    return path


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

    def why_no_sites(self, backbone: BackboneSpec) -> str:
        """Return why no tensor fits a site: the sites are closed, or there are no LoRA tensors at all."""
        return self._closed_site(backbone) or f"{self.path} has no LoRA tensors; a merged model is no adapter"

    def refuse_leftovers(self, backbone: BackboneSpec) -> None:
        """Raise PackageError for tensors that nothing took: they would change the score in PEFT and not here."""
        if not self._left:
            return
        closed = self._closed_site(backbone)
        name = min(self._left)
        if not closed and name.endswith((".weight", ".bias")) and ".lora_" not in name:
            module = name.removeprefix(_PREFIX).rpartition(".")[0]
            closed = (
                f"{self.path} saves the module {module} whole, which this backbone keeps closed; "
                f"if it is a Linear, export the backbone with --modules-to-save {module}"
            )
        raise PackageError(closed or f"{self.path}: {name} fits nothing in this backbone")

    def _closed_site(self, backbone: BackboneSpec) -> str:
        """Return a sentence about LoRA tensors of closed sites, with the `--sites` that would serve them."""
        opened = {site.name for site in backbone.sites}
        wanted = {n.removeprefix(_PREFIX).rpartition(".lora_A")[0] for n in self._left if n.endswith(".lora_A.weight")}
        closed = sorted(wanted - opened)
        if not closed:
            return ""
        suffixes = sorted({name.rpartition(".")[2] for name in {*closed, *opened}})
        return (
            f"{self.path} needs the site {closed[0]}, which this backbone keeps closed; "
            f"export the backbone with --sites {','.join(suffixes)}"
        )


def _site_tables(reader: _Reader, site: Site, config: AdapterConfig, backbone: Backbone) -> dict[str, Array]:
    """Return A = lora_A.T and B = scaling · lora_B.T, so that x @ A @ B is PEFT's delta; M and bias as they apply."""
    prefix = f"{_PREFIX}{site.name}."
    if not reader.has(f"{prefix}lora_A.weight") and not reader.has(f"{prefix}lora_B.weight"):
        return {}
    with np.errstate(over="ignore"):
        rank, scaling = config.rank(site.name), np.float32(config.scaling(site.name))
    a = reader.take(f"{prefix}lora_A.weight", (rank, site.d_in))
    b = reader.take(f"{prefix}lora_B.weight", (site.d_out, rank))
    with np.errstate(over="ignore"):
        b = b * scaling
    a_input, b_input = site_inputs(site.name)
    tables = {a_input: np.ascontiguousarray(a.T), b_input: np.ascontiguousarray(b.T)}
    if config.use_dora:
        _require(site.dora, reader, site, "DoRA", "--dora")
        norm = np.linalg.norm(backbone.site_tensor(site.name, "weight") + b @ a, axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            tables[magnitude_input(site.name)] = _magnitude(reader, prefix, site) / norm
    bias = _added_bias(reader, prefix, site, scaling, backbone)
    if bias is not None:
        tables[bias_input(site.name)] = bias
    return tables


def _magnitude(reader: _Reader, prefix: str, site: Site) -> Array:
    # PEFT leaves out `.weight` when it saves; other writers do not.
    names = (f"{prefix}lora_magnitude_vector", f"{prefix}lora_magnitude_vector.weight")
    return reader.take(next((name for name in names if reader.has(name)), names[0]), (site.d_out,))


def _added_bias(reader: _Reader, prefix: str, site: Site, scaling: np.float32, backbone: Backbone) -> Array | None:
    """Return what the adapter adds to a site's bias: `lora_bias` scaled; `lora_only` less the site's own."""
    added: Array | None = None
    if reader.has(f"{prefix}lora_B.bias"):
        _require(site.bias, reader, site, "biases", "--lora-bias")
        added = reader.take(f"{prefix}lora_B.bias", (site.d_out,)) * scaling
    for name in (f"{prefix}base_layer.bias", f"{prefix}bias"):
        if reader.has(name):
            _require(site.bias, reader, site, "biases", "--lora-bias")
            own = reader.take(name, (site.d_out,)) - backbone.site_tensor(site.name, "bias")
            added = own if added is None else added + own
    return added


def _require(opened: bool, reader: _Reader, site: Site, what: str, option: str) -> None:
    if not opened:
        raise PackageError(
            f"{reader.path} has {what} at {site.name}, which this backbone does not take; export it with {option}"
        )


def _head_tables(reader: _Reader, linear: HeadLinear, levels: int) -> dict[str, Array]:
    width = levels if linear.d_out is None else linear.d_out
    name = f"{_PREFIX}{linear.name}"
    weight = reader.take(f"{name}.weight", (width, linear.d_in))
    bias = reader.take(f"{name}.bias", (width,)) if linear.bias else np.zeros(width, np.float32)
    weight_input, bias_input = head_inputs(linear.name)
    return {weight_input: np.ascontiguousarray(weight.T), bias_input: bias}
