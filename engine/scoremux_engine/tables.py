"""Group → tables: the adapters of the tasks in one batch, stacked as the graph's inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from scoremux_engine.backbone import BackboneSpec, head_inputs, magnitude_input, site_inputs

Array = npt.NDArray[Any]
"""float32, or the narrower type that a runner takes a table in."""

DTypes = Mapping[str, np.dtype[Any]]
"""Graph input name → the type a runner takes it in; float32 where absent."""


@dataclass(frozen=True)
class Tables:
    """Graph input name → array with leading G.

    A.<site> [G, D_in, R], B.<site> [G, R, D_out], weight.<head> [G, D_in, D_out], bias.<head> [G, D_out]; for sites
    that take them M.<site> and bias.<site> [G, D_out].
    """

    arrays: dict[str, Array]


def stack(adapters: Sequence[Mapping[str, Array]], backbone: BackboneSpec, dtypes: DTypes | None = None) -> Tables:
    """Stack G adapters, padding ranks and levels with zeros: zeros add nothing to a sum, so they change no bit.

    adapters: tables by graph input name without the leading G; what an adapter leaves out is filled in (see `fill`).
    """
    ranks = {site.name: _most(adapters, site_inputs(site.name)[0], 1) for site in backbone.sites}
    levels = _most(adapters, head_inputs(backbone.head[-1].name)[1], 0)
    arrays = {}
    for name, shape in input_shapes(backbone, ranks, levels).items():
        dtype = (dtypes or {}).get(name, np.dtype(np.float32))
        parts = [adapter.get(name) for adapter in adapters]
        whole = [part for part in parts if part is not None and part.shape == shape]
        if len(whole) == len(parts):
            # The usual case, tasks of one recipe: nothing to pad, and for one task nothing to copy.
            stacked = whole[0][None] if len(whole) == 1 else np.stack(whole)
            arrays[name] = stacked.astype(dtype, copy=False)
            continue
        arrays[name] = np.zeros((len(parts), *shape), dtype=dtype)
        for slot, part in zip(arrays[name], parts, strict=True):
            fill(slot, name, part)
    return Tables(arrays)


def fill(slot: Array, name: str, part: Array | None) -> None:
    """Write one adapter's table into its place, padded with zeros.

    A site without a table, a magnitude or a bias of its own gets zeros, ones or zeros, which change no bit.
    """
    slot[...] = 1 if part is None and name.startswith(magnitude_input("")) else 0
    if part is not None:
        slot[tuple(slice(n) for n in part.shape)] = part


def input_shapes(backbone: BackboneSpec, ranks: Mapping[str, int], levels: int) -> dict[str, tuple[int, ...]]:
    """Return the shape of each table input without G: R by site, L_max for all."""
    shapes: dict[str, tuple[int, ...]] = {}
    for site in backbone.sites:
        shapes.update({name: _resolve(shape, {"R": ranks[site.name]}) for name, shape in site.inputs.items()})
    for linear in backbone.head:
        shapes.update({name: _resolve(shape, {"L_max": levels}) for name, shape in linear.inputs.items()})
    return shapes


def _most(adapters: Sequence[Mapping[str, Array]], name: str, axis: int) -> int:
    """Return the largest size of a table along an axis; 1 where no adapter has it."""
    return max((adapter[name].shape[axis] for adapter in adapters if name in adapter), default=1)


def _resolve(shape: tuple[int | str, ...], sizes: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(sizes[n] if isinstance(n, str) else n for n in shape[1:])
