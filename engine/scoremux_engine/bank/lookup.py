"""Group → tables: what a micro-batch's rows index, in place or copied together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from scoremux_engine.bank.version import Version
from scoremux_engine.model.backbone import BackboneSpec
from scoremux_engine.model.tables import DTypes, SizeClass, Tables, stack

Ints = npt.NDArray[np.int64]

SHARED_GROUPS = 64
"""Most versions that are copied together once for a whole batch; with more, each micro-batch copies its own few."""


class Lookup:
    """The tables of one batch's versions, by size class.

    Where all versions of a class lie in one pool and the runner reads it in place, that pool is handed over whole and
    rows index slots: nothing is copied, and the graph sees the same tables at every call. Else the tables of the
    versions present are copied together.
    """

    def __init__(self, versions: Sequence[Version], backbone: BackboneSpec, dtypes: DTypes, *, in_place: bool) -> None:
        """Prepare the tables of `versions`, which `group` will index."""
        self._versions = versions
        self._backbone = backbone
        self._dtypes = dtypes
        self._shared: dict[SizeClass, Tables] = {}
        self._index = np.zeros(len(versions), dtype=np.int64)
        for size in {version.size for version in versions}:
            self._share(size, in_place)

    def of(self, group: Ints, *, prefixes: bool = True) -> tuple[Ints, Tables]:
        """Return `group` int64 [B] as the graph takes it, for rows of versions of one size class, and the tables.

        prefixes: whether the rows read their prefixes: all of a micro-batch do, or none.
        """
        own, tables = self._of(group)
        return own, tables if prefixes else tables.bare

    def _of(self, group: Ints) -> tuple[Ints, Tables]:
        shared = self._shared.get(self._versions[group[0]].size)
        if shared is not None:
            return self._index[group], shared
        present, own = np.unique(group, return_inverse=True)
        return own, self._stack([self._versions[i] for i in present])

    def _share(self, size: SizeClass, in_place: bool) -> None:
        members = [i for i, version in enumerate(self._versions) if version.size == size]
        pools = {self._versions[i].pool for i in members}
        pool = pools.pop() if in_place and len(pools) == 1 else None
        if pool is not None:
            self._shared[size] = pool.tables
            self._index[members] = [self._versions[i].slot for i in members]
        elif len(members) <= SHARED_GROUPS:
            self._shared[size] = self._stack([self._versions[i] for i in members])
            self._index[members] = np.arange(len(members))

    def _stack(self, versions: Sequence[Version]) -> Tables:
        return stack([version.tables for version in versions], self._backbone, versions[0].size, self._dtypes)
