"""Segments: every token has one place, in a segment of its own group, and few places are left over."""

import numpy as np
import pytest

from scoremux_engine.runners.segments import STEP, Segments


@pytest.mark.parametrize("seed", range(40))
def test_each_place_has_a_token_of_its_segments_group(seed: int) -> None:
    draw = np.random.default_rng(seed)
    group = draw.integers(0, draw.integers(1, 30), draw.integers(1, 1500))
    segments = Segments.of(group)
    assert segments.tokens.ravel()[segments.places].tolist() == list(range(len(group)))
    assert (group[segments.tokens] == segments.group[:, None]).all()
    assert segments.tokens.shape[1] % STEP == 0
    assert {array.dtype for array in vars(segments).values()} == {np.dtype(np.int32)}


def test_tokens_of_one_group_are_one_segment_and_those_of_many_fill_theirs() -> None:
    assert Segments.of(np.zeros(1000, np.int64)).tokens.shape == (1, 1000)
    assert Segments.of(np.zeros(3, np.int64)).tokens.shape == (1, STEP)
    assert Segments.of(np.repeat([0, 1], [400, 400])).tokens.shape == (2, 400)
    many = Segments.of(np.repeat(np.arange(20), 21))
    assert many.tokens.shape == (20, 24)
    assert Segments.of(np.repeat(np.arange(11), [1000, *[8] * 10])).tokens.size <= 1600
