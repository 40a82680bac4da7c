"""What `scoremux sample` draws: probabilities that are true, and figures without bias."""

from __future__ import annotations

import numpy as np
import pytest

from making import WORDS
from scoremux_assess.agreement.similar_texts import related
from scoremux_assess.sampling.drawing import INTEREST, Candidates, draw, thin
from scoremux_assess.sampling.pivotal import draw_spread, inclusion_probabilities

DRAWS = 1000


def candidates(rows: int = 40, *, adapter: bool = True) -> tuple[list[str | None], Candidates]:
    """Return students and responses: with near copies, several of a student, without vectors, and uncertain ones."""
    random = np.random.default_rng(5)
    words = np.array(WORDS)
    texts = [" ".join(random.choice(words, 9)) for _ in range(rows)]
    for n in range(0, rows, 5):
        texts[n] = f"{texts[0]}!"
    vectors = random.normal(size=(rows, 6)).astype(np.float32)
    vectors[3] = np.nan
    sure = random.dirichlet([0.4] * 3, rows)
    sure[7] = np.nan
    students = [f"s{n // 2}" if 10 < n < 20 else None for n in range(rows)]
    return students, Candidates(related(texts, students), vectors, sure if adapter else None)


@pytest.mark.parametrize("seed", range(4))
def test_units_are_chosen_with_their_probabilities_and_sums_have_no_bias(seed: int) -> None:
    random = np.random.default_rng(seed)
    size = random.random(30) ** 4 + 0.02
    chance, places = inclusion_probabilities(size, 11), random.normal(size=(30, 3))
    assert chance.sum() == pytest.approx(11)
    assert chance.max() <= 1
    assert np.ptp((chance / size)[chance < 1]) < 1e-9
    of = places[:, 0] + 3 * size
    times, sums, unspread = np.zeros(30), [], []
    for _ in range(DRAWS):
        chosen = draw_spread(chance, places, random)
        assert chosen.sum() == 11
        times += chosen
        sums.append((of / chance)[chosen].sum())
        unspread.append((of / chance)[draw_spread(chance, np.zeros((30, 1)), random)].sum())
    deviation = np.sqrt(np.maximum(chance * (1 - chance), 1e-12) / DRAWS)
    assert (np.abs(times / DRAWS - chance) < 4.5 * deviation + 1e-9).all()
    for estimates in (sums, unspread):
        assert abs(np.mean(estimates) - of.sum()) < 4 * np.std(estimates) / np.sqrt(DRAWS)
    assert np.std(sums) < np.std(unspread)


@pytest.mark.parametrize("adapter", [False, True])
def test_responses_are_drawn_with_the_probabilities_that_are_written(adapter: bool) -> None:
    students, pool = candidates(adapter=adapter)
    rows, count = len(students), 12
    labelled = np.zeros(rows, bool)
    labelled[[1, 12]] = True  # row 12 is one of two by a student
    times, written, weights = np.zeros(rows), np.full(rows, np.nan), []
    for seed in range(DRAWS):
        drawn = draw(pool, count, seed, "t-1", labelled)
        assert len(drawn.rows) == count
        copies = [row for row in drawn.rows if row % 5 == 0]
        assert len(copies) <= 1, "near copies are chosen together"
        assert len({s for n in drawn.rows if (s := students[n])}) == sum(students[n] is not None for n in drawn.rows)
        times[drawn.rows] += 1
        known = written[drawn.rows]
        assert np.allclose(known, drawn.probability, equal_nan=False, atol=1e-12) or np.isnan(known).any()
        written[drawn.rows] = drawn.probability
        weights.append((1 / drawn.probability).sum())
    left = ~np.isnan(written)
    assert left.sum() == rows - 3
    assert not left[[1, 12, 13]].any() or not left[[1, 11, 12]].any()
    p = written[left]
    assert (np.abs(times[left] / DRAWS - p) < 4.5 * np.sqrt(p * (1 - p) / DRAWS) + 1e-9).all()
    assert abs(np.mean(weights) - left.sum()) < 4 * np.std(weights) / np.sqrt(DRAWS)
    # A row stands for its copies, or for at most so many others.
    alone = left & (np.bincount(pool.related)[pool.related] == 1)
    assert (1 / written[alone]).max() <= left.sum() / count / (1 - INTEREST) + 1e-9


def test_draw_depends_on_seed_and_task_and_takes_all_where_there_are_few() -> None:
    (_, pool), nothing = candidates(), np.zeros(40, bool)
    first, again, other = (draw(pool, 9, seed, task, nothing) for seed, task in ((1, "a"), (1, "a"), (1, "b")))
    assert (first.rows == again.rows).all()
    assert first.rows.tolist() != other.rows.tolist()
    everything = draw(pool, 100, 1, "a", nothing)
    assert len(everything.rows) == everything.units
    single = Candidates([0], np.zeros((1, 4), np.float32))
    assert draw(single, 3, 1, "a", np.zeros(1, bool)).probability.tolist() == [1]
    assert draw(single, 3, 1, "a", np.ones(1, bool)).rows.tolist() == []


def test_of_many_responses_a_random_part_is_compared() -> None:
    assert thin(5, 1, "a", most=9) == list(range(5))
    times = np.zeros(20)
    for seed in range(DRAWS):
        times[thin(20, seed, "a", most=5)] += 1
    assert (np.abs(times / DRAWS - 0.25) < 4.5 * np.sqrt(0.25 * 0.75 / DRAWS)).all()
