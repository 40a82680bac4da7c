"""Whether memory grows, told from samples that resemble their neighbours."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.trend import Series, slope


def wandering(draw: np.random.Generator, rho: float, count: int) -> npt.NDArray[np.float64]:
    """A series that goes nowhere, each value `rho` times the one before and something new."""
    values = np.zeros(count + 100)
    for i, new in enumerate(draw.normal(size=count + 100)[1:], 1):
        values[i] = rho * values[i - 1] + new
    return values[100:]


@pytest.mark.parametrize(("rho", "most"), [(0.0, 0.06), (0.5, 0.08), (0.9, 0.1)])
def test_what_goes_nowhere_is_seldom_said_to_grow(rho: float, most: float) -> None:
    draw = np.random.default_rng(7)
    slopes = [slope(wandering(draw, rho, 108)) for _ in range(600)]
    assert sum(abs(b) > noise for b, noise in slopes) / 600 < most


def test_what_grows_is_said_to_grow_by_so_much() -> None:
    draw = np.random.default_rng(7)
    b, noise = slope(0.05 * np.arange(108) + draw.normal(scale=0.5, size=108))
    assert b - noise < 0.05 < b + noise and noise < 0.02
    assert slope(3.0 * np.arange(10)) == (pytest.approx(3), pytest.approx(0, abs=1e-9))


def series(mib: npt.NDArray[np.float64], files: list[int]) -> Series:
    made = Series()
    for minute, (rss, count) in enumerate(zip(mib, files, strict=True)):
        made.add(minute, float(rss), count)
    return made


def test_the_warm_up_does_not_count() -> None:
    mib = np.concatenate([np.linspace(150, 200, 40), np.full(40, 200.0)])
    mib += np.random.default_rng(7).normal(scale=0.1, size=80)
    files = [5] * 50 + [6] * 30
    assert series(mib, files).trend(0).verdict == "grows"
    trend = series(mib, files).trend(40)
    assert (trend.verdict, round(trend.rss_mib), trend.files_grow) == ("flat", 200, True)


def test_too_little_is_refused() -> None:
    with pytest.raises(ValueError, match="4 minutes after the warm-up are too few"):
        slope(np.zeros(4))
