"""Statistics against RSMTool's own figures, and against values worked out by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from rsmtool_figures import DATA_SETS, data_set
from scoremux_assess.agreement.fairness import explained
from scoremux_assess.agreement.ratings import MACHINE as PAIR
from scoremux_assess.agreement.ratings import Ratings, kinds, sums
from scoremux_assess.agreement.statistics import STATISTICS, dsm, qwk, statistics

GOLDEN = Path(__file__).with_name("rsmtool_figures.jsonl")
"""What `tests/support/rsmtool_figures.py` printed under RSMTool 12.0.0; it says the command."""

HUMAN = [0, 0, 1, 1, 2, 2]
MACHINE = [0, 0, 1, 2, 2, 0]
"""Squared distances 0 0 0 1 0 4. By chance, human shares being ⅓ ⅓ ⅓ and machine shares ½ ⅙ ⅓, they average 1.5."""


def test_every_statistic_is_rsmtools_on_random_data_sets() -> None:
    golden = [json.loads(line) for line in GOLDEN.read_text(encoding="utf-8").splitlines()]
    assert len(golden) == DATA_SETS
    data = [data_set(number) for number in range(DATA_SETS)]
    sizes = [len(one.human) for one in data]
    columns = (np.concatenate([getattr(one, name) for one in data]) for name in ("human", "machine", "second"))
    ratings = Ratings.of(*columns, expected=np.concatenate([one.expected for one in data]))
    # All data sets at once, as tasks of one report.
    cell = np.repeat(np.arange(DATA_SETS), sizes)
    ours = statistics(ratings, cell, DATA_SETS)
    differences = {}
    for name in (statistic.name for statistic in STATISTICS):
        theirs = np.array([line.get(name) for line in golden], np.float64)
        got = ours[name]
        assert np.array_equal(np.isnan(got), np.isnan(theirs)), name
        differences[name] = float(np.nanmax(np.abs(got - theirs)))
    for number, one in enumerate(data):
        own, group = ratings.take(np.flatnonzero(cell == number)), np.unique(one.group, return_inverse=True)[1]
        for name, value in explained(own, group).items() if len(set(one.group)) > 1 else ():
            theirs_of = golden[number].get(name)
            if name != "crossing" and theirs_of is not None:
                assert value == pytest.approx(theirs_of, abs=1e-9), (number, name)
        whole = sums(ratings, np.where(cell == number, 0, 1), 2, [PAIR]).take(np.array([0]))
        for name in sorted(set(one.group)):
            members = ratings.take(np.flatnonzero(cell == number)).take(np.array(one.group) == name)
            got = dsm(whole, sums(members, np.zeros(len(members), np.int64), 1, [PAIR]))[0]
            theirs = golden[number][f"dsm {name}"]
            assert math.isnan(got) if theirs is None else abs(got - theirs) <= 1e-9, (number, name)
    assert max(differences.values()) <= 1e-9, differences


def test_qwk_is_one_minus_observed_over_expected_squared_distance() -> None:
    assert qwk(HUMAN, MACHINE) == pytest.approx(1 - (5 / 6) / 1.5)


def test_raters_who_use_two_ends_of_the_scale_the_wrong_way_round_have_a_qwk_of_minus_one() -> None:
    assert qwk([0, 2, 0, 2], [2, 0, 2, 0]) == pytest.approx(-1)


def test_a_level_that_nobody_uses_still_has_its_distance() -> None:
    # Observed (0 + 4 + 0 + 4) / 4; both use 0, 1 and 3 with shares ¼ ¼ ½: by chance 2 · (1·¼·¼ + 9·¼·½ + 4·¼·½).
    assert qwk([0, 1, 3, 3], [0, 3, 3, 1]) == pytest.approx(1 - 2 / (54 / 16))


def test_one_constant_rater_has_a_qwk_of_zero_and_two_have_none() -> None:
    assert qwk([0, 1, 2, 1], [1, 1, 1, 1]) == 0
    assert math.isnan(qwk([1, 1, 1], [1, 1, 1]))


def test_smd_divides_by_the_humans_deviation_and_is_negative_for_a_strict_machine() -> None:
    figures = statistics(Ratings.of([0, 2, 0, 2], [0, 1, 0, 1]), np.zeros(4, np.int64), 1)
    assert figures["smd"][0] == pytest.approx(-0.5 / math.sqrt(4 / 3))


def test_kinds_of_rows_are_the_rows_themselves() -> None:
    rows = Ratings.of(HUMAN * 2, MACHINE * 2, [*HUMAN, *[None] * 6])
    merged, cell = kinds(rows, np.zeros(len(rows), np.int64))
    assert (len(merged), merged.rows.sum()) == (10, 12)
    figures, of_kinds = statistics(rows, np.zeros(len(rows), np.int64), 1), statistics(merged, cell, 1)
    assert {name: value[0] for name, value in figures.items()} == pytest.approx(
        {name: value[0] for name, value in of_kinds.items()}
    )


def test_bias_that_crosses_is_seen_by_the_interaction_alone() -> None:
    random = np.random.default_rng(0)
    human, group = random.integers(0, 4, 4000), random.integers(0, 2, 4000)
    shift = np.where(random.random(4000) < 0.25, np.where(human < 2, 1, -1), 0) * group
    figures = explained(Ratings.of(human, human + shift), group)
    assert abs(figures["osd"]) < 0.01
    assert abs(figures["csd"]) < 0.01
    assert figures["crossing"] > 0.05
