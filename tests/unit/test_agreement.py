"""Agreement of two raters against values worked out by hand."""

from __future__ import annotations

import math

import pytest

from scoremux_cli.agreement import agreement

HUMAN = [0, 0, 1, 1, 2, 2]
MACHINE = [0, 0, 1, 2, 2, 0]
"""Squared distances 0 0 0 1 0 4. By chance, human shares being ⅓ ⅓ ⅓ and machine shares ½ ⅙ ⅓, they average 1.5."""


def test_exact_and_adjacent_agreement_are_shares_of_the_rows() -> None:
    figures = agreement(HUMAN, MACHINE)
    assert (figures.n, figures.exact, figures.adjacent) == (6, 4 / 6, 5 / 6)


def test_qwk_is_one_minus_observed_over_expected_squared_distance() -> None:
    assert agreement(HUMAN, MACHINE).qwk == pytest.approx(1 - (5 / 6) / 1.5)


def test_raters_who_agree_have_a_qwk_of_one() -> None:
    assert agreement(HUMAN, HUMAN).qwk == 1.0


def test_raters_who_use_two_ends_of_the_scale_the_wrong_way_round_have_a_qwk_of_minus_one() -> None:
    assert agreement([0, 2, 0, 2], [2, 0, 2, 0]).qwk == pytest.approx(-1)


def test_a_level_that_nobody_uses_still_has_its_distance() -> None:
    # Observed (0 + 4 + 0 + 4) / 4; both use 0, 1 and 3 with shares ¼ ¼ ½: by chance 2 · (1·¼·¼ + 9·¼·½ + 4·¼·½).
    assert agreement([0, 1, 3, 3], [0, 3, 3, 1]).qwk == pytest.approx(1 - 2 / (54 / 16))


def test_qwk_is_the_same_whatever_the_lowest_level_is() -> None:
    shifted = [[level + 7 for level in rater] for rater in (HUMAN, MACHINE)]
    assert agreement(*shifted).qwk == pytest.approx(agreement(HUMAN, MACHINE).qwk)


def test_one_constant_rater_has_a_qwk_of_zero() -> None:
    assert agreement([0, 1, 2, 1], [1, 1, 1, 1]).qwk == pytest.approx(0)


def test_two_raters_who_use_one_and_the_same_level_have_no_qwk_and_no_smd() -> None:
    figures = agreement([1, 1, 1], [1, 1, 1])
    assert (figures.exact, figures.adjacent) == (1.0, 1.0)
    assert math.isnan(figures.qwk)
    assert math.isnan(figures.smd)


def test_two_constant_raters_on_different_levels_have_no_smd() -> None:
    figures = agreement([1, 1], [2, 2])
    assert (figures.exact, figures.adjacent, figures.qwk) == (0.0, 1.0, 0.0)
    assert math.isnan(figures.smd)


def test_smd_is_machine_minus_human_over_the_pooled_deviation() -> None:
    # Means 1 and 2, variances 1 and 0.25.
    assert agreement([0, 2], [2, 2]).smd == pytest.approx(1 / math.sqrt((1 + 0) / 2))
    assert agreement([0, 2, 0, 2], [2, 3, 2, 3]).smd == pytest.approx(1.5 / math.sqrt((1 + 0.25) / 2))


def test_smd_has_the_sign_of_a_machine_that_is_too_strict() -> None:
    assert agreement([1, 2], [0, 1]).smd == pytest.approx(-2)


def test_one_row_is_enough() -> None:
    figures = agreement([1], [2])
    assert (figures.n, figures.exact, figures.adjacent) == (1, 0.0, 1.0)
