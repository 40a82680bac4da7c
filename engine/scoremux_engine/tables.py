"""Group → tables: the adapters of the tasks in one batch, stacked as the graph's inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scoremux_engine.backbone import BackboneSpec, head_inputs, site_inputs
from scoremux_engine.packages.package import TaskPackage

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Tables:
    """Graph input name → float32 array with leading G.

    A.<site> [G, D_in, R], B.<site> [G, R, D_out], weight.<head> [G, D_in, D_out], bias.<head> [G, D_out].
    """

    arrays: dict[str, Array]


def stack(packages: Sequence[TaskPackage], backbone: BackboneSpec) -> Tables:
    """Stack G packages, padding ranks and levels with zeros: zeros add nothing to a sum, so they change no bit."""
    shapes = _widths(packages, backbone)
    arrays = {}
    for name, shape in shapes.items():
        parts = [package.tables.tables.get(name) for package in packages]
        if len(parts) == 1 and parts[0] is not None and parts[0].shape == shape:
            arrays[name] = parts[0][None]  # one task: nothing to copy
            continue
        array = np.zeros((len(packages), *shape), dtype=np.float32)
        for slot, part in zip(array, parts, strict=True):
            if part is not None:
                slot[tuple(slice(n) for n in part.shape)] = part
        arrays[name] = array
    return Tables(arrays)


def _widths(packages: Sequence[TaskPackage], backbone: BackboneSpec) -> dict[str, tuple[int, ...]]:
    """Return each input's shape without G: the largest rank of its site, the largest number of levels."""
    levels = max(package.levels for package in packages)
    shapes: dict[str, tuple[int, ...]] = {}
    for site in backbone.sites:
        a, b = site_inputs(site.name)
        rank = max([p.tables.tables[a].shape[1] for p in packages if a in p.tables.tables], default=1)
        shapes[a], shapes[b] = (site.d_in, rank), (rank, site.d_out)
    for linear in backbone.head:
        weight, bias = head_inputs(linear.name)
        width = levels if linear.d_out is None else linear.d_out
        shapes[weight], shapes[bias] = (linear.d_in, width), (width,)
    return shapes
