"""An adapter's tensors: which there are for a backbone, with which shapes, and the tables made of them.

Everything else is refused by name.
"""

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from scoremux_engine.errors import ClosedError, PackageError
from scoremux_engine.model import backbone as names
from scoremux_engine.model.backbone import Backbone, BackboneSpec, Site
from scoremux_engine.model.exact_arithmetic import product, total
from scoremux_engine.packages.adapter_config import AdapterConfig
from scoremux_engine.packages.package_files import TASK_JSON
from scoremux_engine.packages.tensor_file import TensorFile
from scoremux_files.settings import quote_key

PREFIX = "base_model.model."
_LORA_A = ".lora_A.weight"
_Expected = Iterator[tuple[str, tuple[int, ...]]]
Array = npt.NDArray[np.floating[Any]]

_MOST_DELTA = 1e15
"""The largest product of a value of A and one of B. From 1e19 on, attention leaves float32: PEFT gives NaN, and runners
the same logits for all texts."""


def make_tables(
    file: TensorFile, config: AdapterConfig, backbone: Backbone, levels: int
) -> tuple[dict[str, Array], int, str]:
    """Check and prepare every tensor; the data is read only if every shape is right.

    Returns:
        The tables by the graph's input names, without the leading G, float32: A.<site> [D_in, R] and
        B.<site> [R, D_out], scaling folded into B; M.<site> and bias.<site> [D_out] where the adapter is DoRA or has
        biases; sites that the adapter does not change are absent; weight.<head> [D_in, D_out], bias.<head> [D_out].
        The number of levels, or 1 where the head gives a value in points. The file's sha256.

    Raises:
        PackageError: A tensor is wrong; the message names the first.
    """
    outputs = head_outputs(file, backbone.spec, levels)
    refuse_misfits(file, config, backbone.spec, outputs)
    tensors, digest = file.load()
    tables: dict[str, Array] = {}
    for site in backbone.spec.sites:
        if has_lora(file, site.name):
            tables.update(_site_tables(file, tensors, site, config, backbone))
    for linear in backbone.spec.head:
        weight_input, bias_input = names.head_inputs(linear.name)
        weight = tensors[f"{PREFIX}{linear.name}.weight"]
        tables[weight_input] = np.ascontiguousarray(weight.T)
        tables[bias_input] = (
            tensors[f"{PREFIX}{linear.name}.bias"] if linear.bias else np.zeros(len(weight), np.float32)
        )
    for name, table in tables.items():
        # Finite tensors can still overflow in what is made of them: a scaling, a norm of zero.
        if not np.isfinite(table).all():
            raise PackageError(f"{file.path}: {name} holds NaN or infinity once scaled")
    for site in backbone.spec.sites:
        used = [tables[name] for name in names.site_inputs(site.name) if name in tables]
        largest = prod(float(np.abs(table).max()) for table in used)
        if largest > _MOST_DELTA:
            raise PackageError(
                f"{file.path}: LoRA at {site.name} multiplies by up to {largest:.0e}, which float32 cannot carry "
                "through a model; its training diverged"
            )
    return tables, outputs, digest


def _site_tables(
    file: TensorFile, tensors: dict[str, Array], site: Site, config: AdapterConfig, backbone: Backbone
) -> dict[str, Array]:
    """Return A = lora_A.T and B = scaling · lora_B.T, so that x @ A @ B is PEFT's delta; M and bias as they apply."""
    prefix = f"{PREFIX}{site.name}."
    magnitudes, biases = magnitude_name(file, site.name), own_bias_names(file, site.name)
    a = tensors[f"{prefix}lora_A.weight"]
    with np.errstate(over="ignore"):
        scaling = np.float32(config.scaling(site.name))
        b = tensors[f"{prefix}lora_B.weight"] * scaling
    a_input, b_input = names.site_inputs(site.name)
    tables = {a_input: np.ascontiguousarray(a.T), b_input: np.ascontiguousarray(b.T)}
    if config.use_dora:
        # A library's product would have other bits on another processor.
        weight = backbone.site_tensor(site.name, "weight") + product(b.astype(np.float64), a.astype(np.float64))
        norm = np.sqrt(total(weight * weight))[:, 0]
        with np.errstate(divide="ignore", invalid="ignore"):
            tables[names.magnitude_input(site.name)] = tensors[magnitudes] / norm.astype(np.float32)
    # What the adapter adds to the site's bias: `lora_bias` scaled; `lora_only` less the site's own.
    added = [tensors[name] - backbone.site_tensor(site.name, "bias") for name in biases]
    if f"{prefix}lora_B.bias" in tensors:
        added.insert(0, tensors[f"{prefix}lora_B.bias"] * scaling)
    if added:
        tables[names.bias_input(site.name)] = np.sum(added, axis=0, dtype=np.float32)
    return tables


def head_outputs(file: TensorFile, backbone: BackboneSpec, levels: int) -> int:
    """Return the width that the head must have: a logit for each level, or one output, whose value is in points."""
    shape = file.shapes.get(f"{PREFIX}{backbone.head[-1].name}.weight", ())
    return 1 if shape[:1] == (1,) else levels


def refuse_misfits(file: TensorFile, config: AdapterConfig, backbone: BackboneSpec, outputs: int) -> None:
    """Check which tensors there are, and their shapes.

    `outputs` is the width of the head (`head_outputs`). Raises PackageError that names the first tensor that is
    missing, has another shape or fits nothing.
    """
    expected = dict(_expected(file, config, backbone, outputs))
    if not any(name.endswith(_LORA_A) for name in expected):
        closed = _closed_site(file, backbone, set(file.shapes))
        raise closed or PackageError(f"{file.path} has no LoRA tensors; a merged model is not an adapter")
    last = f"{PREFIX}{backbone.head[-1].name}.weight"
    for name, shape in expected.items():
        if name not in file.shapes:
            head = "" if ".lora_" in name else ", of the head; PEFT leaves it out where it converts to plain LoRA"
            raise PackageError(f"{file.path} has no {name}{head}")
        if file.shapes[name] != shape:
            shown = f"{list(file.shapes[name])}" if len(file.shapes[name]) <= 8 else "of too many sizes"
            why = f", since {TASK_JSON} has {outputs} levels" if name == last and outputs > 1 else ""
            raise PackageError(f"{file.path}: {name} has shape {shown}, expected {list(shape)}{why}")
    left = set(file.shapes) - set(expected)
    if left:
        raise _why_left(file, backbone, left)


def has_lora(file: TensorFile, site: str) -> bool:
    return f"{PREFIX}{site}{_LORA_A}" in file.shapes or f"{PREFIX}{site}.lora_B.weight" in file.shapes


def magnitude_name(file: TensorFile, site: str) -> str:
    """Return the name of a site's DoRA magnitudes: PEFT leaves out `.weight` when it saves, other writers do not."""
    names = (f"{PREFIX}{site}.lora_magnitude_vector", f"{PREFIX}{site}.lora_magnitude_vector.weight")
    return next((name for name in names if name in file.shapes), names[0])


def own_bias_names(file: TensorFile, site: str) -> list[str]:
    names = (f"{PREFIX}{site}.base_layer.bias", f"{PREFIX}{site}.bias")
    return [name for name in names if name in file.shapes]


def _expected(file: TensorFile, config: AdapterConfig, backbone: BackboneSpec, outputs: int) -> _Expected:
    for site in backbone.sites:
        if has_lora(file, site.name):
            if config.leaves_out(site.name):
                raise PackageError(
                    f"{file.path} has LoRA tensors of {site.name}, which target_modules or exclude_modules "
                    "leaves out, so that PEFT would ignore them; save the adapter again"
                )
            yield from _expected_at(file, site, config)
    for linear in backbone.head:
        width = outputs if linear.d_out is None else linear.d_out
        yield f"{PREFIX}{linear.name}.weight", (width, linear.d_in)
        if linear.bias:
            yield f"{PREFIX}{linear.name}.bias", (width,)


def _expected_at(file: TensorFile, site: Site, config: AdapterConfig) -> _Expected:
    rank, prefix = config.rank(site.name), f"{PREFIX}{site.name}"
    yield f"{prefix}{_LORA_A}", (rank, site.d_in)
    yield f"{prefix}.lora_B.weight", (site.d_out, rank)
    if config.use_dora:
        _require(site.dora, file, site, "DoRA")
        yield magnitude_name(file, site.name), (site.d_out,)
    biases = own_bias_names(file, site.name)
    if f"{prefix}.lora_B.bias" in file.shapes:
        biases.append(f"{prefix}.lora_B.bias")
    for name in biases:
        _require(site.bias, file, site, "biases")
        yield name, (site.d_out,)


def _require(opened: bool, file: TensorFile, site: Site, what: str) -> None:
    if not opened:
        raise ClosedError(f"{file.path} has {what} at {site.name}, which this backbone does not take")


def _why_left(file: TensorFile, backbone: BackboneSpec, left: set[str]) -> PackageError:
    """Return why tensors that nothing takes are refused: they would change the score in PEFT and not here."""
    closed = _closed_site(file, backbone, left)
    name = min(left)
    if not closed and name.endswith((".weight", ".bias")) and ".lora_" not in name:
        module = quote_key(name.removeprefix(PREFIX).rpartition(".")[0])
        return ClosedError(
            f"{file.path} saves {module} whole, which this backbone keeps closed (a Linear can be opened)"
        )
    return closed or PackageError(f"{file.path}: {quote_key(name)} fits nothing in this backbone")


def _closed_site(file: TensorFile, backbone: BackboneSpec, left: set[str]) -> ClosedError | None:
    """Return an error about LoRA tensors of closed sites."""
    opened = {site.name for site in backbone.sites}
    adapted = {n.removeprefix(PREFIX).removesuffix(_LORA_A) for n in left if n.endswith(_LORA_A)}
    closed = sorted(adapted - opened)
    if not closed:
        return None
    return ClosedError(f"{file.path} needs the site {quote_key(closed[0])}, which this backbone keeps closed")
