"""Stacks the adapters of the tasks in one micro-batch as the tables that the graph takes as inputs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from scoremux_engine.model.backbone import BackboneSpec, is_prefix_input, magnitude_input, site_inputs
from scoremux_engine.model.buckets import SizeClass, classes, padded_prefix

Array = npt.NDArray[Any]
"""float32, or the narrower type that a runner takes a table in."""

DTypes = Mapping[str, np.dtype[Any]]
"""Graph input name → the type a runner takes it in; float32 where absent."""


@dataclass(frozen=True, eq=False)
class Tables:
    """Graph input name → array with leading G.

    A.<site> [G, D_in, R], B.<site> [G, R, D_out], weight.<head> [G, D_in, D_out], bias.<head> [G, D_out]; for sites
    that take them M.<site> and bias.<site> [G, D_out]; for layers that read prefixes K.<layer> and V.<layer>
    [G, heads, P, width].

    Attributes:
        writes: How often each place of G was written so far, where that changes; None: the arrays stay as they are.
    """

    arrays: dict[str, Array]
    writes: npt.NDArray[np.int64] | None = None

    @cached_property
    def sizes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes of the arrays without G, which is all that one row meets."""
        return tuple(array.shape[1:] for array in self.arrays.values())

    @cached_property
    def bare(self) -> "Tables":
        """These tables with prefixes of no tokens, for rows that do not begin with their task's."""
        if not any(map(is_prefix_input, self.arrays)):
            return self
        arrays = {name: a[:, :, :0] if is_prefix_input(name) else a for name, a in self.arrays.items()}
        return Tables(arrays, self.writes)


def size_class(tables: Mapping[str, Array], levels: int) -> SizeClass:
    """Return the smallest size class that holds an adapter's tables (as `stack` takes them) and its levels."""
    second = {name: table.shape[1] for name, table in tables.items() if table.ndim > 1}
    beginning, _ = site_inputs("")
    ranks = (size for name, size in second.items() if name.startswith(beginning))
    prefixes = (size for name, size in second.items() if is_prefix_input(name))
    return SizeClass(
        rank=classes(max(ranks, default=1), levels=False)[-1],
        levels=classes(levels, levels=True)[-1],
        prefix=padded_prefix(max(prefixes, default=0)),
    )


def stack(
    adapters: Sequence[Mapping[str, Array]], backbone: BackboneSpec, size: SizeClass, dtypes: DTypes | None = None
) -> Tables:
    """Stack G adapters, padding ranks and levels with zeros, which add nothing to a sum.

    Args:
        adapters: tables by graph input name without the leading G; absent ones are filled in (see
            `fill`).
        size: R and L_max, to which tables are padded.
    """
    arrays = {}
    for name, shape in input_shapes(backbone, size).items():
        arrays[name] = np.zeros((len(adapters), *shape), dtype=(dtypes or {}).get(name, np.dtype(np.float32)))
        for slot, adapter in zip(arrays[name], adapters, strict=True):
            fill(slot, name, adapter.get(name))
    return Tables(arrays)


def fill(slot: Array, name: str, part: Array | None) -> None:
    """Write one adapter's table into its place, padded with zeros.

    A site without a table, a magnitude or a bias of its own gets zeros, ones or zeros, which change no bit.
    """
    if part is None or part.shape != slot.shape:
        slot[...] = 1 if part is None and name.startswith(magnitude_input("")) else 0
    if part is not None:
        slot[tuple(slice(n) for n in part.shape)] = part


def input_shapes(backbone: BackboneSpec, size: SizeClass) -> dict[str, tuple[int, ...]]:
    """Return the shape of each table input without G."""
    sizes = {"R": size.rank, "L_max": size.levels, "P": size.prefix}
    return {
        name: tuple(sizes[n] if isinstance(n, str) else n for n in shape[1:])
        for name, shape in backbone.table_inputs.items()
    }
