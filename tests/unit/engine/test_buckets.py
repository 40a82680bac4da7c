"""The ladder of padded lengths."""

from __future__ import annotations

import pytest

from scoremux_engine.errors import BackboneError
from scoremux_engine.model.buckets import Buckets

MAXIMA = [1, 7, 8, 9, 64, 100, 128, 512, 514, 576, 577, 8192]


@pytest.mark.parametrize("max_tokens", MAXIMA)
def test_every_length_gets_the_smallest_rung_that_holds_it(max_tokens: int) -> None:
    buckets = Buckets(max_tokens)
    for length in range(1, max_tokens + 1):
        assert buckets.of(length) == min(rung for rung in buckets.lengths if rung >= length)


@pytest.mark.parametrize("max_tokens", MAXIMA)
def test_rungs_ascend_to_max_tokens_and_no_further(max_tokens: int) -> None:
    lengths = Buckets(max_tokens).lengths
    assert list(lengths) == sorted(set(lengths))
    assert lengths[-1] == max_tokens


@pytest.mark.parametrize("max_tokens", MAXIMA)
def test_padding_is_at_most_a_quarter_or_a_step(max_tokens: int) -> None:
    buckets = Buckets(max_tokens)
    for length in range(1, max_tokens + 1):
        assert buckets.of(length) - length < max(8, length / 4)


def test_a_longer_backbone_leaves_the_rungs_below_as_they_are() -> None:
    short, long = Buckets(512), Buckets(2048)
    assert [short.of(n) for n in range(1, 513)] == [long.of(n) for n in range(1, 513)]


@pytest.mark.parametrize("max_tokens", [0, -1])
def test_a_backbone_without_tokens_is_refused(max_tokens: int) -> None:
    with pytest.raises(BackboneError, match=f"max_tokens is {max_tokens}"):
        Buckets(max_tokens)
