"""Statistics against RSMTool's own figures, and against values worked out by hand."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from rsmtool_figures import DATA_SETS, data_set
from scoremux_evidence.figures.agreement import STATISTICS, dsm, qwk, statistics
from scoremux_evidence.figures.levels import measure_levels
from scoremux_evidence.figures.sums import Pair, sums
from scoremux_evidence.rows.table import rated

GOLDEN = Path(__file__).with_name("rsmtool_figures.jsonl")
"""What `tests/support/rsmtool_figures.py` printed under RSMTool 12.0.0; it says the command."""

HUMAN = [0, 0, 1, 1, 2, 2]
MACHINE = [0, 0, 1, 2, 2, 0]
"""Squared distances 0 0 0 1 0 4. By chance, human shares being ⅓ ⅓ ⅓ and machine shares ½ ⅙ ⅓, they average 1.5."""


def deviation(levels: npt.NDArray[np.float64]) -> float:
    return float(np.std(levels, ddof=1)) if len(levels) > 1 else math.nan


PLAIN: dict[str, Callable[..., Any]] = {
    "human_mean": lambda h, _: h.mean(),
    "machine_mean": lambda _, m: m.mean(),
    "human_sd": lambda h, _: deviation(h),
    "machine_sd": lambda _, m: deviation(m),
    "below": lambda h, m: (m < h).mean(),
    "above": lambda h, m: (m > h).mean(),
    "far_below": lambda h, m: (m < h - 1).mean(),
    "far_above": lambda h, m: (m > h + 1).mean(),
}
"""Statistics that need no other program to compare with."""


def test_every_statistic_is_rsmtools_on_random_data_sets() -> None:
    golden = [json.loads(line) for line in GOLDEN.read_text(encoding="utf-8").splitlines()]
    assert len(golden) == DATA_SETS
    data = [data_set(number) for number in range(DATA_SETS)]
    sizes = [len(one.human) for one in data]
    columns = (np.concatenate([getattr(one, name) for one in data]) for name in ("human", "machine", "second"))
    others = {name: np.concatenate([getattr(one, name) for one in data]) for name in ("kept", "length")}
    ratings = rated(*columns).plus(**others)
    # All data sets at once, as tasks of one report.
    cell = np.repeat(np.arange(DATA_SETS), sizes)
    ours = statistics(ratings, cell, DATA_SETS)
    double = ~np.isnan(ratings.second)
    swapped = ratings.plus(human=ratings.second, second=ratings.human).where(double)
    of_second = statistics(swapped, cell[double], DATA_SETS)
    differences = {}
    for name in (statistic.name for statistic in STATISTICS):
        theirs = np.array([line.get(name) for line in golden], np.float64)
        if name in PLAIN:
            columns = ([np.array(rated) for rated in (one.human, one.machine)] for one in data)
            theirs = np.array([PLAIN[name](*rated) for rated in columns])
        if name.startswith("degradation_second"):
            theirs = of_second[name.replace("second_", "")]
        got = ours[name]
        assert np.array_equal(np.isnan(got), np.isnan(theirs)), name
        differences[name] = float(np.nanmax(np.abs(got - theirs)))
    for number, one in enumerate(data):
        whole = sums(ratings, np.where(cell == number, 0, 1), 2, [Pair.MACHINE]).take(np.array([0]))
        for name in sorted(set(one.group)):
            members = ratings.where(np.flatnonzero(cell == number)).where(np.array(one.group) == name)
            got = dsm(whole, sums(members, np.zeros(len(members), np.int64), 1, [Pair.MACHINE]))[0]
            theirs = golden[number][f"dsm {name}"]
            assert math.isnan(got) if theirs is None else abs(got - theirs) <= 1e-9, (number, name)
    assert max(differences.values()) <= 1e-9, differences


def test_one_constant_rater_has_a_qwk_of_zero_and_two_have_none() -> None:
    assert qwk([0, 1, 2, 1], [1, 1, 1, 1]) == 0
    assert math.isnan(qwk([1, 1, 1], [1, 1, 1]))


def test_score_of_record_is_the_machines_where_it_keeps_the_row_and_a_humans_elsewhere() -> None:
    # Three rows went to people; two humans read two of them, which stand for three.
    second, kept = [None, None, 2, 0, None], np.array([1, 1, 0, 0, 0])
    figures = statistics(rated([0, 1, 2, 1, 2], [0, 1, 0, 0, 0], second).plus(kept=kept), np.zeros(5, np.int64), 1)
    assert figures["exact"][0] == pytest.approx(2 / 5)
    assert figures["kept_exact"][0] == 1
    assert figures["people"][0] == pytest.approx(3 / 5)
    assert figures["record_exact"][0] == pytest.approx((2 + 1.5 * 1) / 5)
    # A human is 2 and 0 where the second human reads, and gave 2 and 1: their means are 1 and 1.5.
    deviation = math.sqrt((0 + 1 + 1.5 * (4 + 0) - 5 * (4 / 5) ** 2) / 4)
    assert figures["record_smd"][0] == pytest.approx((1 + 1.5 * 3 - 4) / 5 / deviation)
    alone = statistics(rated([0, 1], [0, 1]).plus(kept=np.array([1.0, 0.0])), np.zeros(2, np.int64), 1)
    assert math.isnan(alone["record_exact"][0])


@pytest.mark.parametrize("seed", range(4))
def test_agreement_by_level_is_that_of_numpy(seed: int) -> None:
    random = np.random.default_rng(seed)
    human, task = random.integers(-(seed % 3 == 1), 4, 300).astype(float), np.repeat([0, 1], 150)
    human += random.choice([0, 0.5], 300) if seed == 2 else 0
    second = np.where(random.random(300) < 0.6, human + random.choice([-1, 0, 0, 1], 300), np.nan).clip(0, 4)
    machine = np.clip(np.rint(human) + random.choice([-1, 0, 0, 1], 300), 0, 3)
    weight = random.choice([1.0, 4.0], 300)
    for place, figures in enumerate(measure_levels(rated(human, machine, second, weight=weight), task, [5, None])):
        rows = task == place
        assert figures.humans.sum() == (rows & ~np.isnan(second)).sum()
        for cell, level in enumerate(figures.levels):
            given = rows & (np.rint(human) == level)
            assert figures.confusion[cell].sum() == given.sum()
            theirs = np.average((human == machine)[given], weights=weight[given]) if given.any() else np.nan
            assert figures.exact.value[cell] == pytest.approx(theirs, nan_ok=True)
