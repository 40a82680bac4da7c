"""An adapter's tensors, checked against the backbone and made ready to run."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from scoremux_engine.errors import PackageError
from scoremux_engine.model import backbone as names
from scoremux_engine.model.backbone import Backbone, HeadLinear, Site
from scoremux_engine.model.exact_arithmetic import product, total
from scoremux_engine.packages import adapter_layout as layout
from scoremux_engine.packages.adapter_config import AdapterConfig
from scoremux_engine.packages.adapter_layout import PREFIX
from scoremux_engine.packages.tensor_file import TensorFile

Array = npt.NDArray[np.floating[Any]]
Number = type[np.float32] | type[np.float64]

_MOST_DELTA = 1e15
"""The largest product of a value of A and one of B. From 1e19 on, attention leaves float32: PEFT gives NaN, and runners
the same logits for all texts."""


def make_tables(
    file: TensorFile, config: AdapterConfig, backbone: Backbone, levels: int, number: Number = np.float32
) -> tuple[dict[str, Array], int, str]:
    """Check and prepare every tensor; the data is read only if every shape is right.

    Returns:
        The tables by the graph's input names, without the leading G, of type `number`: A.<site> [D_in, R] and
        B.<site> [R, D_out], scaling folded into B; M.<site> and bias.<site> [D_out] where the adapter is DoRA or has
        biases; sites that the adapter does not change are absent; weight.<head> [D_in, D_out], bias.<head> [D_out].
        The number of levels, or 1 where the head gives a value in points. The file's sha256.

    Raises:
        PackageError: A tensor is wrong; the message names the first.
    """
    outputs = layout.head_outputs(file, backbone.spec, levels)
    layout.refuse_misfits(file, config, backbone.spec, outputs)
    stored, digest = file.load()
    tensors: dict[str, Array] = {name: tensor.astype(number, copy=False) for name, tensor in stored.items()}
    tables: dict[str, Array] = {}
    for site in backbone.spec.sites:
        if layout.has_lora(file, site.name):
            tables.update(_site_tables(file, tensors, site, config, backbone, number))
    for linear in backbone.spec.head:
        tables.update(_head_tables(tensors, linear, outputs))
    for name, table in tables.items():
        # Finite tensors can still overflow in what is made of them: a scaling, a norm of zero.
        if not np.isfinite(table).all():
            raise PackageError(f"{file.path}: {name} holds NaN or infinity once scaled")
    for site in backbone.spec.sites:
        _refuse_diverged(file, tables, site)
    return tables, outputs, digest


def _refuse_diverged(file: TensorFile, tables: dict[str, Array], site: Site) -> None:
    largest = prod(float(np.abs(tables[name]).max()) for name in names.site_inputs(site.name) if name in tables)
    if largest > _MOST_DELTA:
        raise PackageError(
            f"{file.path}: LoRA at {site.name} multiplies by up to {largest:.0e}, which float32 cannot carry through a "
            "model; its training diverged"
        )


def _site_tables(
    file: TensorFile, tensors: dict[str, Array], site: Site, config: AdapterConfig, backbone: Backbone, number: Number
) -> dict[str, Array]:
    """Return A = lora_A.T and B = scaling · lora_B.T, so that x @ A @ B is PEFT's delta; M and bias as they apply."""
    prefix = f"{PREFIX}{site.name}."
    a = tensors[f"{prefix}lora_A.weight"]
    with np.errstate(over="ignore"):
        scaling = number(config.scaling(site.name))
        b = tensors[f"{prefix}lora_B.weight"] * scaling
    a_input, b_input = names.site_inputs(site.name)
    tables = {a_input: np.ascontiguousarray(a.T), b_input: np.ascontiguousarray(b.T)}
    if config.use_dora:
        # A library's product would have other bits on another processor.
        weight = backbone.site_tensor(site.name, "weight") + product(b.astype(np.float64), a.astype(np.float64))
        norm = np.sqrt(total(weight * weight))[:, 0]
        with np.errstate(divide="ignore", invalid="ignore"):
            magnitudes = tensors[layout.magnitude_name(file, site.name)]
            tables[names.magnitude_input(site.name)] = magnitudes / norm.astype(number)
    # What the adapter adds to the site's bias: `lora_bias` scaled; `lora_only` less the site's own.
    added = [tensors[name] - backbone.site_tensor(site.name, "bias") for name in layout.own_bias_names(file, site.name)]
    if f"{prefix}lora_B.bias" in tensors:
        added.insert(0, tensors[f"{prefix}lora_B.bias"] * scaling)
    if added:
        tables[names.bias_input(site.name)] = np.sum(added, axis=0, dtype=number)
    return tables


def _head_tables(tensors: dict[str, Array], linear: HeadLinear, outputs: int) -> dict[str, Array]:
    width = outputs if linear.d_out is None else linear.d_out
    name = f"{PREFIX}{linear.name}"
    bias = tensors[f"{name}.bias"] if linear.bias else np.zeros(width, np.float32)
    weight_input, bias_input = names.head_inputs(linear.name)
    return {weight_input: np.ascontiguousarray(tensors[f"{name}.weight"].T), bias_input: bias}
