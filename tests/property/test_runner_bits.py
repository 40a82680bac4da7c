"""One response in random mixes, every runner and precision: identical bits."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from benchmarks.bit_stability import RUNNERS, count_changed
from making import WORDS
from scoremux_engine import Engine


@pytest.mark.parametrize("name", RUNNERS)
def test_a_response_keeps_its_bits_in_random_mixes(small_repository: Path, name: str) -> None:
    draw = random.Random(27)
    fillers = [" ".join(draw.choices(WORDS, k=draw.randint(0, 60))) for _ in range(200)]
    engine = Engine.open(small_repository, runner=RUNNERS[name])
    assert count_changed(engine, fillers, mixes=200, most_rows=200) == 0
