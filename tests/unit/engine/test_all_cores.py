"""A row that is alone has all cores, and the bits that it has in company."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from bits import random_tables
from computed import computed_precisions
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.runners.openvino import AllCores, OpenVinoRunner
from scoremux_engine.runners.runner import Floats, RowInputs

ONE, NEXT = np.float32([1.0]), np.nextafter(np.float32([1.0]), np.float32(2))


class Ways:
    """Computes a row here or on a stream, and notes which."""

    def __init__(self, here: Floats) -> None:
        self._here = here
        self.taken: list[str] = []

    def here(self, _request: object) -> Sequence[Floats]:
        self.taken.append("here")
        return [self._here]

    def on_a_stream(self) -> Sequence[Floats]:
        self.taken.append("stream")
        return [ONE]


def ready(make: Callable[[], str]) -> AllCores[str]:
    """Return one whose request is made, or failed to be."""
    cores = AllCores(make)
    assert cores.run("first", Ways(ONE).here, Ways(ONE).on_a_stream) == [ONE]
    cores._request.exception()
    return cores


def test_a_shape_is_compared_once_and_then_computed_on_all_cores() -> None:
    cores, ways = ready(lambda: "made"), Ways(ONE)
    assert [cores.run("short", ways.here, ways.on_a_stream) for _ in range(3)] == [[ONE]] * 3
    assert ways.taken == ["stream", "here", "here", "here"]
    cores.run("long", ways.here, ways.on_a_stream)
    assert ways.taken[4:] == ["stream", "here"]


def test_a_shape_with_other_bits_stays_on_a_stream() -> None:
    cores, ways = ready(lambda: "made"), Ways(NEXT)
    assert [cores.run("short", ways.here, ways.on_a_stream) for _ in range(3)] == [[ONE]] * 3
    assert ways.taken == ["stream", "here", "stream", "stream"]


def test_streams_compute_where_the_request_cannot_be_made() -> None:
    def fail() -> str:
        raise RuntimeError("no memory")

    cores, ways = ready(AllCores(fail)), Ways(ONE)
    assert cores.run("short", ways.here, ways.on_a_stream) == [ONE]
    assert ways.taken == ["stream"]


@pytest.mark.parametrize("precision", computed_precisions())
def test_a_row_alone_has_the_bits_of_a_row_in_company(backbone: Backbone, precision: str) -> None:
    runner = OpenVinoRunner(backbone, precision, threads=4, streams=4)
    assert runner._all_cores is not None
    runner._all_cores.run("first", lambda _: [], lambda: [])
    runner._all_cores._request.result()
    draw = np.random.default_rng(5)
    for rank, tokens in product((8, 16, 64), (8, 16, 40, 64)):
        tables = random_tables(backbone.spec, groups=3, rank=rank)
        ids = draw.integers(5, 90, (1, tokens))
        mask = (np.arange(tokens) < tokens - draw.integers(0, 8)).astype(np.int64)[None]
        row = RowInputs(ids, mask, np.array([1]), np.zeros_like(ids))
        expected = runner.run(row, tables, pooled=True)
        for _ in range(3):
            alone = runner.run(replace(row, alone=True), tables, pooled=True)
            assert alone.logits.tobytes() == expected.logits.tobytes()
            assert alone.pooled is not None and expected.pooled is not None
            assert alone.pooled.tobytes() == expected.pooled.tobytes()
