"""Traffic comes out as described."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from benchmarks.traffic import POPULARITIES, Traffic, repeated, word_counts

POOL = [(f"t-{task}", f"text {number} of task {task} here") for task in range(9) for number in range(300)]


@pytest.mark.parametrize("popularity", POPULARITIES)
def test_rows_are_as_many_as_asked_and_texts_are_the_tasks_own(popularity: str) -> None:
    rows = Traffic(rows=500, popularity=popularity).draw(POOL)
    assert len(rows) == 500
    assert set(rows) <= set(POOL)


def test_popularity_decides_how_often_a_task_comes() -> None:
    counts = {
        kind: Counter(task for task, _ in Traffic(rows=900, popularity=kind).draw(POOL)).most_common()
        for kind in POPULARITIES
    }
    assert [count for _, count in counts["distinct"]] == [100] * 9
    assert len(counts["identical"]) == 1
    assert 380 < counts["skewed"][0][1] < 550  # as often as all others together, 9 of 17
    assert counts["zipf"][0][1] > 2.5 * counts["zipf"][4][1]
    assert max(count for _, count in counts["uniform"]) < 140


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5])
def test_the_share_of_duplicates_is_exact_where_texts_suffice(share: float) -> None:
    rows = Traffic(rows=1000, popularity="uniform", duplicates=share).draw(POOL)
    assert repeated(rows) == pytest.approx(share)


def test_the_same_description_gives_the_same_rows_and_another_seed_others() -> None:
    assert Traffic(rows=50).draw(POOL) == Traffic(rows=50).draw(POOL)
    assert Traffic(rows=50).draw(POOL) != Traffic(rows=50, seed=7).draw(POOL)


def test_lengths_follow_their_distribution() -> None:
    def lengths(words: str) -> list[int]:
        return [len(text.split()) for _, text in Traffic(rows=400, words=words).draw(POOL)]

    assert set(lengths("7")) == {7}
    assert set(lengths("3-5")) == {3, 4, 5}
    log = sorted(lengths("lognormal:20:0.5"))
    assert 17 <= log[200] <= 23
    assert log[-1] > 2 * log[200]


def test_a_task_without_words_still_gets_responses() -> None:
    assert Traffic(rows=3, words="2").draw([("t", "")]) == [("t", "- -")] * 3


@pytest.mark.parametrize(
    ("field", "value"),
    [("rows", 0), ("popularity", "fair"), ("duplicates", 1.0), ("words", "5-3"), ("words", "0"), ("words", "normal:1")],
)
def test_a_description_that_makes_no_sense_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{field} is {value!r}"):
        Traffic(**{field: value})  # type: ignore[arg-type]


def test_word_counts_draw_from_both_ends() -> None:
    draw = random.Random(1)
    assert {word_counts("2-3")(draw) for _ in range(50)} == {2, 3}
