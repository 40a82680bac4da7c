"""Starts that are refused although nothing is wrong: of every family, runner, precision and number of streams."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from computed import computed_precisions
from families import FAMILIES
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.model.buckets import SizeClass
from scoremux_engine.runners.choose import ON_CPU, RunnerChoice
from scoremux_engine.runners.expected import distances
from waiting import Result, Scaled

LIVE = (SizeClass(64, 8), SizeClass(8, 32), SizeClass(16, 8, 64))
STREAMS = (1, 2, 3, 4)


@pytest.mark.parametrize("family", ["bert, 256 wide", *FAMILIES])
def test_no_right_start_is_refused(
    family: str, exported_family: Callable[[str], Path], mixed_repository: Path, scaled: Scaled, result: Result
) -> None:
    repository = exported_family(family) if family in FAMILIES else mixed_repository
    backbone, starts, refused, share = Backbone.open(repository / "backbone" / "1"), 0, 0, 0.0
    with busy():
        for choice in ON_CPU:
            if choice.precision not in computed_precisions():
                continue
            for streams in STREAMS:
                for _ in range(scaled(20)):
                    runner = RunnerChoice(choice.name, precision=choice.precision, threads=streams, streams=streams)
                    found = distances(backbone, runner.make(backbone), LIVE)
                    starts, refused = starts + 1, refused + any(one.is_too_far for one in found)
                    share = max(share, *(one.farthest / one.allowed for one in found))
    figure = f"{refused} of {starts:,}; the farthest had {share:.2f} of the allowed distance"
    result(f"right starts that are refused, {family}, all runners and precisions, 1 to 4 streams, busy", figure)
    assert refused == 0


@contextmanager
def busy() -> Iterator[None]:
    stop = threading.Event()

    def compute() -> None:
        numbers = np.ones((512, 512), np.float32)
        while not stop.is_set():
            np.matmul(numbers, numbers)

    thread = threading.Thread(target=compute)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
