"""Group → tables: what a micro-batch's rows index, in place or copied together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from scoremux_engine.backbone import BackboneSpec
from scoremux_engine.bank.version import Version
from scoremux_engine.tables import DTypes, Tables, stack

Ints = npt.NDArray[np.int64]

SHARED_GROUPS = 64
"""Most versions that are copied together once for a whole batch; with more, each micro-batch copies its own few."""


class Lookup:
    """The tables of one batch's versions.

    Where all versions lie in one pool and the runner reads it in place, that pool is handed over whole and rows index
    slots: nothing is copied, and the graph sees the same tables at every call. Else the tables of the versions present
    are copied together.
    """

    def __init__(self, versions: Sequence[Version], backbone: BackboneSpec, dtypes: DTypes, *, in_place: bool) -> None:
        self._versions = versions
        self._backbone = backbone
        self._dtypes = dtypes
        pools = {version.pool for version in versions}
        pool = pools.pop() if in_place and len(pools) == 1 else None
        self._shared: Tables | None = None
        if pool is not None:
            self._shared, self._index = pool.tables, np.array([v.slot for v in versions], dtype=np.int64)
        elif len(versions) <= SHARED_GROUPS:
            self._shared, self._index = self._stack(versions), np.arange(len(versions), dtype=np.int64)

    def of(self, group: Ints) -> tuple[Ints, Tables]:
        """Return `group` int64 [B] as the graph takes it, for rows of the versions in `group`, and the tables."""
        if self._shared is not None:
            return self._index[group], self._shared
        present, own = np.unique(group, return_inverse=True)
        return own, self._stack([self._versions[i] for i in present])

    def _stack(self, versions: Sequence[Version]) -> Tables:
        return stack([version.tables for version in versions], self._backbone, self._dtypes)
