"""Splitting a batch: every row once, within the budget, in a bucket that its own length decides."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from making import make_spec
from scoremux_engine.model.buckets import Buckets
from scoremux_engine.model.tokens import Tokens
from scoremux_engine.scoring import microbatches
from scoremux_engine.scoring.microbatches import LEAST_TOKENS, MicroBatch, pad

MAX_TOKENS = 512
BUCKETS = Buckets(MAX_TOKENS)

lengths = st.lists(st.integers(1, MAX_TOKENS), max_size=80)
budgets = st.integers(1, 8192)
classes = st.lists(st.sampled_from([16, 64, 256]), min_size=80, max_size=80)
texts = st.lists(st.lists(st.integers(0, 30_000), min_size=1, max_size=40), min_size=1, max_size=20)


def rows_of(tokens: list[list[int]]) -> list[Tokens]:
    return [Tokens(ids, [number % 2 for number in ids], truncated=False) for ids in tokens]


def plan(
    lengths: list[int], buckets: Buckets, budget: int, streams: int = 1, sizes: list[int] | None = None
) -> list[MicroBatch]:
    return microbatches.plan(lengths, (sizes or [16] * len(lengths))[: len(lengths)], buckets, budget, streams)


@settings(deadline=None)
@given(lengths, budgets, classes)
def test_rows_of_different_size_classes_never_share_a_micro_batch(
    lengths: list[int], budget: int, sizes: list[int]
) -> None:
    planned = plan(lengths, BUCKETS, budget, sizes=sizes)
    assert sorted(row for part in planned for row in part.rows.tolist()) == list(range(len(lengths)))
    for part in planned:
        assert len({sizes[row] for row in part.rows}) == 1
        assert {BUCKETS.of(lengths[row]) for row in part.rows} == {part.bucket}


@settings(deadline=None)
@given(lengths, budgets)
def test_every_row_is_in_exactly_one_micro_batch(lengths: list[int], budget: int) -> None:
    rows = [row for part in plan(lengths, BUCKETS, budget) for row in part.rows.tolist()]
    assert sorted(rows) == list(range(len(lengths)))


@settings(deadline=None)
@given(lengths, budgets)
def test_no_micro_batch_is_empty_or_above_the_budget_unless_it_is_one_row(lengths: list[int], budget: int) -> None:
    for part in plan(lengths, BUCKETS, budget):
        assert len(part.rows) == 1 or 1 < len(part.rows) <= budget // part.bucket


@settings(deadline=None)
@given(lengths, budgets)
def test_a_rows_bucket_is_that_of_its_own_length(lengths: list[int], budget: int) -> None:
    for part in plan(lengths, BUCKETS, budget):
        assert {BUCKETS.of(lengths[row]) for row in part.rows} == {part.bucket}


@settings(deadline=None)
@given(lengths, budgets, st.randoms(use_true_random=False))
def test_order_and_neighbours_never_change_a_rows_bucket(lengths: list[int], budget: int, draw: object) -> None:
    order = list(range(len(lengths)))
    draw.shuffle(order)  # type: ignore[attr-defined]
    kept = order[: len(order) // 2 + 1]
    mixed = {kept[i]: p.bucket for p in plan([lengths[row] for row in kept], BUCKETS, budget) for i in p.rows.tolist()}
    whole = {row: p.bucket for p in plan(lengths, BUCKETS, budget) for row in p.rows.tolist()}
    assert mixed == {row: whole[row] for row in kept}


@settings(deadline=None)
@given(lengths, budgets)
def test_rows_of_a_bucket_are_spread_as_evenly_as_can_be_over_the_fewest_parts(lengths: list[int], budget: int) -> None:
    planned = plan(lengths, BUCKETS, budget)
    for bucket in {part.bucket for part in planned}:
        sizes = [len(part.rows) for part in planned if part.bucket == bucket]
        assert max(sizes) - min(sizes) <= 1
        assert len(sizes) == -(-sum(sizes) // max(1, budget // bucket))


@settings(deadline=None)
@given(lengths, budgets)
def test_the_part_with_most_tokens_comes_first_and_rows_of_one_stay_in_order(lengths: list[int], budget: int) -> None:
    planned = plan(lengths, BUCKETS, budget)
    tokens = [part.bucket * len(part.rows) for part in planned]
    assert tokens == sorted(tokens, reverse=True)
    for part in planned:
        assert part.rows.tolist() == sorted(part.rows.tolist())


@settings(deadline=None)
@given(lengths, budgets, st.integers(2, 64))
def test_streams_split_a_batch_further_but_not_into_crumbs(lengths: list[int], budget: int, streams: int) -> None:
    planned = plan(lengths, BUCKETS, budget, streams)
    assert sorted(row for part in planned for row in part.rows.tolist()) == list(range(len(lengths)))
    whole = plan(lengths, BUCKETS, budget)
    assert len(planned) >= len(whole)
    crumbs = sum(1 for part in planned if len(part.rows) * part.bucket < min(budget, LEAST_TOKENS) / 2)
    assert crumbs <= len({part.bucket for part in planned}) + sum(len(part.rows) == 1 for part in planned)


def test_rows_that_read_long_prefixes_are_fewer() -> None:
    def rows(prefix: int) -> list[int]:
        planned = microbatches.plan([8] * 200, [prefix] * 200, BUCKETS, 2048, prefixes=[prefix] * 200)
        return [len(part.rows) for part in planned]

    assert [max(rows(prefix)) for prefix in (0, 32, 256, 1024, 1 << 20)] == [200, 200, 50, 16, 1]


def test_few_rows_of_one_length_keep_all_streams_at_work() -> None:
    assert [len(part.rows) for part in plan([32] * 64, BUCKETS, 4096, 4)] == [16] * 4
    assert [len(part.rows) for part in plan([32] * 16, BUCKETS, 4096, 4)] == [4] * 4
    assert [len(part.rows) for part in plan([32] * 2, BUCKETS, 4096, 4)] == [2]


def test_parts_of_unlike_lengths_are_split_only_where_streams_are_done_earlier() -> None:
    assert [(p.bucket, len(p.rows)) for p in plan([64] * 5 + [40] * 8, BUCKETS, 4096, 2)] == [(64, 5), (40, 8)]
    assert len(plan([64] * 12 + [40] * 2, BUCKETS, 4096, 2)) > 2


@settings(deadline=None)
@given(texts, st.integers(0, 30_000), st.integers(0, 24))
def test_padding_keeps_every_token_in_its_place_and_masks_the_rest(
    tokens: list[list[int]], pad_id: int, room: int
) -> None:
    bucket = max(map(len, tokens)) + room
    spec, group = make_spec(8).model_copy(update={"pad_id": pad_id}), np.arange(len(tokens))
    made = pad(rows_of(tokens), group, bucket, spec)
    assert set(made.feeds) == set(spec.row_inputs)
    assert {array.dtype for array in made.feeds.values()} == {np.dtype(np.int64)}
    assert made.group is group
    types = made.feeds["token_type_ids"].tolist()
    for row, own, ids, kinds in zip(tokens, made.attention_mask.tolist(), made.input_ids.tolist(), types, strict=True):
        rest = bucket - len(row)
        assert ids == row + [pad_id] * rest
        assert own == [1] * len(row) + [0] * rest
        assert kinds == [number % 2 for number in row] + [0] * rest
    without = pad(rows_of(tokens), group, bucket, spec.model_copy(update={"token_types": False}))
    assert set(without.feeds) == {"input_ids", "attention_mask", "group"}


def test_a_row_without_tokens_becomes_one_padding_token_that_is_seen() -> None:
    made = pad(rows_of([[], [7, 8]]), np.array([0, 1]), 4, make_spec(8).model_copy(update={"pad_id": 3}))
    assert made.input_ids.tolist() == [[3, 3, 3, 3], [7, 8, 3, 3]]
    assert made.attention_mask.tolist() == [[1, 0, 0, 0], [1, 1, 0, 0]]


@settings(deadline=None)
@given(st.lists(st.integers(1, 64), min_size=1, max_size=40), st.integers(1, 512))
def test_rows_go_through_plan_and_pad_and_back_to_their_places(lengths: list[int], budget: int) -> None:
    buckets = Buckets(64)
    tokens = [[1000 * row + i for i in range(length)] for row, length in enumerate(lengths, start=1)]
    back: list[list[int]] = [[] for _ in lengths]
    for part in plan(lengths, buckets, budget):
        made = pad(rows_of([tokens[row] for row in part.rows]), part.rows, part.bucket, make_spec(8))
        for row, ids, own in zip(part.rows.tolist(), made.input_ids, made.attention_mask, strict=True):
            back[row] = ids[own == 1].tolist()
    assert back == tokens
