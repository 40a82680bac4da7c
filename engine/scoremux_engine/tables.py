"""Group → tables: the adapters of the tasks in one batch, stacked as the graph's inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scoremux_engine.backbone import BackboneSpec, magnitude_input, site_inputs
from scoremux_engine.packages.package import TaskPackage

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Tables:
    """Graph input name → float32 array with leading G.

    A.<site> [G, D_in, R], B.<site> [G, R, D_out], weight.<head> [G, D_in, D_out], bias.<head> [G, D_out]; for sites
    that take them M.<site> and bias.<site> [G, D_out].
    """

    arrays: dict[str, Array]


def stack(packages: Sequence[TaskPackage], backbone: BackboneSpec) -> Tables:
    """Stack G packages, padding ranks and levels with zeros: zeros add nothing to a sum, so they change no bit.

    A package without a magnitude or bias of its own gets ones or zeros, which change no bit either.
    """
    arrays = {}
    magnitudes = {magnitude_input(site.name) for site in backbone.sites}
    for name, shape in _shapes(packages, backbone).items():
        parts = [package.tables.tables.get(name) for package in packages]
        whole = [part for part in parts if part is not None and part.shape == shape]
        if len(whole) == len(parts):
            # The usual case, tasks of one recipe: nothing to pad, and for one task nothing to copy.
            arrays[name] = whole[0][None] if len(whole) == 1 else np.stack(whole)
            continue
        array = np.full((len(packages), *shape), 1 if name in magnitudes else 0, dtype=np.float32)
        for slot, part in zip(array, parts, strict=True):
            if part is not None:
                slot[tuple(slice(n) for n in part.shape)] = part
        arrays[name] = array
    return Tables(arrays)


def _shapes(packages: Sequence[TaskPackage], backbone: BackboneSpec) -> dict[str, tuple[int, ...]]:
    """Return each input's shape without G: R is the largest rank at its site, L_max the largest number of levels."""
    levels = max(package.levels for package in packages)
    shapes: dict[str, tuple[int, ...]] = {}
    for site in backbone.sites:
        a, _ = site_inputs(site.name)
        rank = max([p.tables.tables[a].shape[1] for p in packages if a in p.tables.tables], default=1)
        shapes.update({name: _resolve(shape, {"R": rank}) for name, shape in site.inputs.items()})
    for linear in backbone.head:
        shapes.update({name: _resolve(shape, {"L_max": levels}) for name, shape in linear.inputs.items()})
    return shapes


def _resolve(shape: tuple[int | str, ...], sizes: dict[str, int]) -> tuple[int, ...]:
    return tuple(sizes[n] if isinstance(n, str) else n for n in shape[1:])
