"""How cores are shared out, and that a runner's bits do not depend on it."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from bits import random_tables
from computed import computed_runners
from scoremux_engine.errors import RunnerError
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.runners.choose import RunnerChoice
from scoremux_engine.runners.runner import RowInputs, Streams, available_cores

CORES = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("threads", "streams", "shared"),
    [(8, None, Streams(8, 1)), (8, 1, Streams(1, 8)), (8, 3, Streams(3, 2)), (1, None, Streams(1, 1))],
)
def test_threads_are_shared_out_among_streams(threads: int, streams: int | None, shared: Streams) -> None:
    assert Streams.of(threads, streams) == shared


def test_more_streams_than_threads_are_refused() -> None:
    with pytest.raises(RunnerError, match="streams is 5, but there are 4 threads"):
        Streams.of(4, 5)


@pytest.mark.parametrize(
    ("text", "cores"),
    [("max 100000", CORES), ("100000 100000", 1), ("50000 100000", 1), ("100000000 100000", CORES), ("?", CORES)],
)
def test_a_control_groups_quota_bounds_the_cores(tmp_path: Path, text: str, cores: int) -> None:
    (tmp_path / "cpu.max").write_text(text)
    assert available_cores(tmp_path / "cpu.max") == cores


def test_no_control_group_leaves_the_cores_this_process_may_run_on(tmp_path: Path) -> None:
    assert available_cores(tmp_path / "absent") == CORES


@pytest.mark.parametrize("name", computed_runners())
def test_streams_side_by_side_give_the_bits_of_one(backbone: Backbone, name: str) -> None:
    kind = computed_runners()[name]
    one = RunnerChoice(kind.name, precision=kind.precision, threads=2, streams=1).make(backbone)
    side_by_side = RunnerChoice(kind.name, precision=kind.precision, threads=3).make(backbone)
    assert (one.streams, side_by_side.streams) == (1, 3)
    tables = random_tables(backbone.spec, groups=4)
    draw = np.random.default_rng(3)
    parts = []
    for rows in (1, 2, 5, 9, 16, 3, 1, 12) * 3:
        ids = draw.integers(5, 90, (rows, 16))
        parts.append(RowInputs(ids, np.ones_like(ids), draw.integers(0, 4, rows), np.zeros_like(ids)))
    expected = [one.run(part, tables).logits.tobytes() for part in parts]
    with ThreadPoolExecutor(side_by_side.overlap) as pool:
        got = [out.logits.tobytes() for out in pool.map(lambda part: side_by_side.run(part, tables), parts)]
    assert got == expected
