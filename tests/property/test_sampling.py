"""What `scoremux sample` draws: probabilities that are true, and figures without bias."""

import numpy as np
import pytest

from making import WORDS
from scoremux_evidence.rows.similar_texts import related
from scoremux_evidence.sampling import EQUAL, draw, inclusion_probabilities, thin

DRAWS = 1000


def responses(rows: int = 40) -> tuple[list[str | None], list[int], list[str]]:
    """Return students, units and strata: with near copies, several of a student, and few responses of a stratum."""
    random = np.random.default_rng(5)
    words = np.array(WORDS)
    texts = [" ".join(random.choice(words, 9)) for _ in range(rows)]
    for n in range(0, rows, 5):
        texts[n] = f"{texts[0]}!"
    students = [f"s{n // 2}" if 10 < n < 20 else None for n in range(rows)]
    who = np.array([-1 if student is None else int(student[1:]) for student in students])
    return students, related(texts, who), ["rare" if n in (22, 23, 31) else str(n % 3) for n in range(rows)]


@pytest.mark.parametrize("seed", range(4))
def test_probabilities_are_proportional_to_sizes_and_sum_to_the_count(seed: int) -> None:
    size = np.random.default_rng(seed).random(30) ** 4 + 0.02
    chance = inclusion_probabilities(size, 11)
    assert chance.sum() == pytest.approx(11)
    assert chance.max() <= 1
    assert np.ptp((chance / size)[chance < 1]) < 1e-9


def test_responses_are_drawn_with_the_probabilities_that_are_written() -> None:
    students, units, strata = responses()
    rows, count = len(students), 12
    labelled = np.zeros(rows, bool)
    labelled[[1, 12]] = True  # row 12 is one of two by a student
    times, written, weights, rare, in_rare = np.zeros(rows), np.full(rows, np.nan), [], np.array(strata) == "rare", []
    for seed in range(DRAWS):
        drawn = draw(units, strata, count, seed, "t-1", labelled)
        assert len(drawn.rows) == count
        copies = [row for row in drawn.rows if row % 5 == 0]
        assert len(copies) <= 1, "near copies are chosen together"
        assert len({s for n in drawn.rows if (s := students[n])}) == sum(students[n] is not None for n in drawn.rows)
        times[drawn.rows] += 1
        known = written[drawn.rows]
        assert (np.isnan(known) | (np.abs(known - drawn.probability) < 1e-12)).all()
        written[drawn.rows] = drawn.probability
        weights.append((1 / drawn.probability).sum())
        in_rare.append(int(rare[drawn.rows].sum()))
    left = ~np.isnan(written)
    assert left.sum() == rows - 3
    assert not left[[1, 12, 13]].any() or not left[[1, 11, 12]].any()
    p = written[left]
    assert (np.abs(times[left] / DRAWS - p) < 4.5 * np.sqrt(p * (1 - p) / DRAWS) + 1e-9).all()
    assert abs(np.mean(weights) - left.sum()) < 4 * np.std(weights) / np.sqrt(DRAWS)
    # A rare stratum has a part of every draw, and a row stands for its copies, or for so many others at most.
    assert min(in_rare) >= 1 and p[rare[left]].min() > 1.5 * count / left.sum()
    alone = left & (np.bincount(units)[units] == 1)
    assert (1 / written[alone]).max() <= left.sum() / count / (1 - EQUAL) + 1e-9


def test_draw_depends_on_seed_and_task_and_takes_all_where_there_are_few() -> None:
    (_, units, strata), nothing = responses(), np.zeros(40, bool)
    first, again, other = (draw(units, strata, 9, seed, task, nothing) for seed, task in ((1, "a"), (1, "a"), (1, "b")))
    assert (first.rows == again.rows).all()
    assert first.rows.tolist() != other.rows.tolist()
    everything = draw(units, strata, 100, 1, "a", nothing)
    assert len(everything.rows) == everything.units
    assert draw([0], [""], 3, 1, "a", np.zeros(1, bool)).probability.tolist() == [1]
    assert draw([0], [""], 3, 1, "a", np.ones(1, bool)).rows.tolist() == []


def test_of_many_responses_a_random_part_is_compared() -> None:
    assert thin(5, 1, "a", most=9) == list(range(5))
    times = np.zeros(20)
    for seed in range(DRAWS):
        times[thin(20, seed, "a", most=5)] += 1
    assert (np.abs(times / DRAWS - 0.25) < 4.5 * np.sqrt(0.25 * 0.75 / DRAWS)).all()
