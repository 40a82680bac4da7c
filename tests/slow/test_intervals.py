"""Coverage of the 95 % intervals, and how often a criterion is passed that the truth fails."""

from __future__ import annotations

import numpy as np
import pytest

import raters
from proofs import Result, Scaled
from scoremux_assess.intervals import estimates
from scoremux_assess.statistics import BY_NAME

NAMES = ("qwk", "smd", "exact", "adjacent", "r", "sd_ratio")
PROMISED = ("qwk", "smd", "exact")


@pytest.mark.parametrize("rows", [14, 30, 100, 500])
def test_ninety_five_percent_intervals_hold_the_truth_that_often(rows: int, scaled: Scaled, result: Result) -> None:
    times, found = scaled(20_000), {}
    for number, (name, table) in enumerate(raters.TABLES.items()):
        ratings, draw = raters.draws(table, rows, times, seed=number)
        chosen = [BY_NAME[statistic] for statistic in NAMES]
        got = estimates(chosen, ratings, draw, times)
        real = raters.truth(table)
        true = estimates(chosen, real, np.zeros(len(real), np.int64), 1)
        for statistic in NAMES:
            one, value = got[statistic], true[statistic].value[0]
            defined = ~np.isnan(one.low)
            found[name, statistic] = float(((one.low <= value) & (value <= one.high))[defined].mean())
            print(rows, name, statistic, f"{value:.3f}", f"{found[name, statistic]:.4f}", f"{defined.mean():.3f}")
    means = {s: np.mean([found[name, s] for name in raters.TABLES]) for s in NAMES}
    least = {s: min((found[name, s], name) for name in raters.TABLES) for s in PROMISED}
    figure = "; ".join(f"{s} {means[s]:.1%} (least {least[s][0]:.1%})" for s in PROMISED)
    result(f"coverage of 95 % intervals, n = {rows}", figure)
    if rows >= 30:
        assert all(0.93 <= means[s] <= 0.97 for s in PROMISED), means
