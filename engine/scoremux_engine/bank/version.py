"""One version of a task, in memory and ready to score."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from scoremux_assess.decisions.apply import UNDECIDED, Decider
from scoremux_engine.bank.pool import Pool
from scoremux_engine.model.tables import Array, SizeClass
from scoremux_engine.packages.package import TaskPackage
from scoremux_engine.packages.task import Task


@dataclass(frozen=True, eq=False)
class Version:
    """`pool` and `slot` say where its tables are; a version that found no slot has them in `own_tables` instead.

    size: the class that its tables are padded to. outputs: how many numbers its head gives: a logit for each level, or
    one value in points. decider: decides about its rows. prefix: the token ids whose keys and
    values are among its tables, none where there are none.
    """

    task: Task
    digest: str
    size: SizeClass
    outputs: int
    pool: Pool | None = None
    slot: int = 0
    own_tables: Mapping[str, Array] | None = None
    decider: Decider = UNDECIDED
    prefix: tuple[int, ...] = ()

    @classmethod
    def of(cls, package: TaskPackage, size: SizeClass, pool: Pool | None = None, slot: int = 0) -> Version:
        """Return the version that a package is, with its tables in a slot, or else in its own memory."""
        return cls(
            package.task,
            package.digest,
            size,
            package.outputs,
            pool,
            slot,
            own_tables=None if pool else package.tables.tables,
            decider=package.decider,
            prefix=package.prefix,
        )

    def prefix_tokens(self, ids: list[int], pad_id: int) -> int:
        """Return how many of a row's first tokens the prefix stands for: all of its own, or none.

        None where the row begins with other ids, and where nothing but padding tokens follows: the head reads the last
        token that is none, which has to be among those computed.
        """
        size = len(self.prefix)
        begins = size and tuple(ids[:size]) == self.prefix and any(token != pad_id for token in ids[size:])
        return size if begins else 0

    @property
    def tables(self) -> Mapping[str, Array]:
        """The tables by graph input name, without the leading G; a slot's are padded to `size`."""
        if self.pool is not None:
            return self.pool.view(self.slot)
        return self.own_tables or {}
