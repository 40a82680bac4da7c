"""Logits to levels and probabilities, against a sum in float64, one row at a time."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from scoremux_engine.scoring.outcomes import decide, nearest

WIDTHS = [2, 3, 5, 9, 17, 100]


def logits(rows: int, width: int, scale: float = 3.0) -> npt.NDArray[np.float32]:
    return np.random.default_rng(width).normal(0, scale, (rows, width)).astype(np.float32)


def softmax(row: npt.NDArray[np.float32]) -> list[float]:
    """p[i] = exp(z[i] − max z) / Σ exp(z − max z), the sum rounded once."""
    powers = [math.exp(float(z) - float(row.max())) for z in row]
    return [power / math.fsum(powers) for power in powers]


@pytest.mark.parametrize("width", WIDTHS)
def test_probabilities_are_those_of_the_oracle_to_the_last_float32_digit(width: int) -> None:
    z = logits(200, width)
    expected = np.array([softmax(row) for row in z])
    np.testing.assert_allclose(decide(z)[1], expected, rtol=1.2e-7, atol=0)


@pytest.mark.parametrize("width", WIDTHS)
def test_the_level_is_where_the_largest_logit_is(width: int) -> None:
    z = logits(200, width)
    assert decide(z)[0].tolist() == [row.tolist().index(max(row)) for row in z]


def test_the_lower_level_wins_a_tie() -> None:
    z = np.array([[1, 2, 2], [0, 0, 0], [3, 1, 3]], dtype=np.float32)
    assert decide(z)[0].tolist() == [1, 0, 0]


def test_a_tie_that_only_probabilities_see_does_not_move_the_level() -> None:
    close = np.array([[1.0, np.nextafter(np.float32(1.0), np.float32(2.0))]], dtype=np.float32)
    assert decide(close)[0].tolist() == [1]


@pytest.mark.parametrize("width", WIDTHS)
def test_a_row_has_the_same_bits_alone_and_among_others(width: int) -> None:
    z = logits(33, width)
    together = decide(z)[1]
    for i, row in enumerate(z):
        assert decide(row[None])[1].tobytes() == together[i].tobytes()


@pytest.mark.parametrize("width", WIDTHS)
def test_a_row_has_the_same_bits_at_any_place_of_a_batch(width: int) -> None:
    z = logits(33, width)
    order = np.random.default_rng(0).permutation(len(z))
    assert decide(z[order])[1].tobytes() == decide(z)[1][order].tobytes()


def test_a_slice_of_a_wider_table_has_the_bits_of_its_copy() -> None:
    wide = logits(20, 9)
    assert decide(wide[:, :4])[1].tobytes() == decide(wide[:, :4].copy())[1].tobytes()


def test_huge_logits_overflow_nothing() -> None:
    z = np.array([[3e38, -3e38], [-3e38, -3e38], [1e4, 1e4 - 1]], dtype=np.float32)
    probabilities = decide(z)[1]
    assert probabilities[:2].tolist() == [[1.0, 0.0], [0.5, 0.5]]
    assert np.isfinite(probabilities).all()


def test_types_are_those_of_the_wire() -> None:
    level, probabilities = decide(logits(1, 3))
    assert (level.dtype, probabilities.dtype) == (np.int32, np.float32)


def test_one_output_becomes_the_nearest_level_and_the_lower_one_on_a_tie() -> None:
    points = np.array([[0, 0.25, 1.0]] * 7)
    values = np.array([-3, 0.12, 0.125, 0.126, 0.625, 0.63, 40], dtype=np.float32)
    assert nearest(values, points).tolist() == [0, 0, 0, 1, 1, 2, 2]
