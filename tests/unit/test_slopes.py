"""Slopes and bends."""

from __future__ import annotations

import pytest

from benchmarks.limit import waterfall
from benchmarks.peak import flops
from benchmarks.slopes import growth

X = [1, 2, 4, 8, 16, 32, 64]


def test_a_power_law_has_its_exponent_everywhere() -> None:
    grown = growth(X, [3 * x**0.7 for x in X])
    assert grown.slope == pytest.approx(0.7)
    assert (grown.before, grown.after) == (pytest.approx(0.7), pytest.approx(0.7))


@pytest.mark.parametrize("bend", [4, 8, 16])
def test_a_curve_that_saturates_bends_where_it_does(bend: int) -> None:
    grown = growth(X, [100.0 * min(x, bend) for x in X])
    assert grown.bend == bend
    assert (grown.before, grown.after) == (pytest.approx(1), pytest.approx(0, abs=1e-9))


def test_two_points_have_a_slope_and_no_bend() -> None:
    grown = growth([1, 2], [100, 180])
    assert grown.slope == pytest.approx(0.848, abs=1e-3)
    assert grown.bend is None


def test_a_waterfall_adds_up_to_the_served_time() -> None:
    seconds = {"served": 1.3, "engine": 1.2, "tokenise": 0.05, "sites": 1.0, "closed": 0.9}
    inside = {"linear": 0.7, "attention": 0.2, "other": 0.1}
    lengths = [20, 40]
    parts = waterfall(seconds, inside, lengths, padding=0.1, peak=flops(lengths) / 0.3)
    assert sum(parts.values()) == pytest.approx(1.3)
    assert parts["matrix products at peak"] == pytest.approx(0.3)
    assert parts["padding"] == pytest.approx(0.09)
    assert parts["LoRA"] == pytest.approx(0.1)
    assert parts["gRPC and Triton"] == pytest.approx(0.1)
