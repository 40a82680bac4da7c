"""Requests of rows that are numbers, to schedule without a model."""

from __future__ import annotations

import time

import numpy as np

from scoremux_engine.bank.residents import Version
from scoremux_engine.model.buckets import SizeClass
from scoremux_engine.model.tokens import Tokens
from scoremux_engine.packages.task import Task
from scoremux_engine.runners.runner import Outputs
from scoremux_engine.scoring.observer import BatchTrace
from scoremux_engine.scoring.row_plan import PlannedRow, RowPlan
from scoremux_engine.scoring.row_request import ANY_TERMS, RowRequest, Terms

TASK = Task(id="t", levels=(0, 1))
Row = tuple[int, int, int]


class NoVersions:
    """What a request of the tests has in place of a bank's versions."""

    def close(self) -> None: ...


def make_request(names: list[Row], terms: Terms = ANY_TERMS, arrived: float | None = None) -> RowRequest:
    """Return a request of rows, each a number that names it, its bucket and its rank class."""
    rows = []
    for place, (name, bucket, rank) in enumerate(names):
        version = Version(TASK, f"v-{rank}", SizeClass(rank, 8), 2)
        rows.append(PlannedRow(place, version, Tokens([name], [0], False), None, 0, bucket))
    out = Outputs(np.full((len(rows), 2), np.nan, np.float32))
    request = RowRequest(RowPlan([], [], rows), NoVersions(), out, False, BatchTrace(), terms)  # type: ignore[arg-type]
    request.arrived = time.monotonic() if arrived is None else arrived
    return request
