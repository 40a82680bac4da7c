"""Splitting rows into micro-batches: every row once, within the budget, in a bucket that its own length decides."""

import random

import numpy as np
import pytest

from making import make_spec
from scoremux_engine.bank.residents import Version
from scoremux_engine.model.buckets import Buckets, SizeClass
from scoremux_engine.model.tokens import Tokens
from scoremux_engine.packages.task import Task
from scoremux_engine.runners.runner import pad
from scoremux_engine.scoring.micro_batches import LEAST_TOKENS, MicroBatch, split
from scoremux_engine.scoring.row_plan import PlannedRow

MAX_TOKENS = 512
BUCKETS = Buckets(MAX_TOKENS)
TASK = Task(id="t", levels=(0, 1))


@pytest.fixture(params=range(100))
def draw(request: pytest.FixtureRequest) -> random.Random:
    return random.Random(request.param)


def draw_lengths(draw: random.Random) -> list[int]:
    longest = round(MAX_TOKENS ** draw.random())
    return [draw.randint(1, longest) for _ in range(draw.randint(0, 80))]


def draw_budget(draw: random.Random) -> int:
    return round(8192 ** draw.random())


def tokens_of(rows: list[list[int]]) -> list[Tokens]:
    return [Tokens(ids, [number % 2 for number in ids], truncated=False) for ids in rows]


def planned_row(place: int, length: int, rank: int = 16, prefix: int = 0) -> PlannedRow:
    version = Version(TASK, f"version-{rank}", SizeClass(rank, 8, prefix), 2)
    return PlannedRow(place, version, Tokens([place] * length, [0] * length, False), None, prefix, BUCKETS.of(length))


def plan(lengths: list[int], budget: int, streams: int = 1) -> list[MicroBatch]:
    return split([planned_row(place, length) for place, length in enumerate(lengths)], budget, streams)


def places(part: MicroBatch) -> list[int]:
    return [row.place for row in part.rows]


def test_every_row_is_in_one_micro_batch_of_a_bucket_that_neighbours_do_not_change(draw: random.Random) -> None:
    lengths, budget, ranks = draw_lengths(draw), draw_budget(draw), draw.choices([16, 64, 256], k=80)
    rows = [planned_row(place, *row) for place, row in enumerate(zip(lengths, ranks, strict=False))]
    parts = split(rows, budget, draw.randint(1, 64))
    assert sorted(place for part in parts for place in places(part)) == list(range(len(lengths)))
    assert not any("digest" in vars(row) for row in rows)  # where no account of deaths is kept, none is computed
    for part in parts:
        assert len({ranks[place] for place in places(part)}) == 1
        assert {BUCKETS.of(lengths[place]) for place in places(part)} == {part.bucket}
        assert len(part.rows) == 1 or 1 < len(part.rows) <= budget // part.bucket
        assert places(part) == sorted(places(part))
    lengths, budget = draw_lengths(draw), draw_budget(draw)
    order = draw.sample(range(len(lengths)), len(lengths))
    kept = order[: len(order) // 2 + 1]
    mixed = {kept[i]: p.bucket for p in plan([lengths[row] for row in kept], budget) for i in places(p)}
    whole = {row: p.bucket for p in plan(lengths, budget) for row in places(p)}
    assert mixed == {row: whole[row] for row in kept}


def test_rows_are_spread_evenly_and_streams_split_a_batch_further_but_not_into_crumbs(draw: random.Random) -> None:
    budget = draw_budget(draw)
    parts = plan(draw_lengths(draw), budget)
    assert [part.tokens for part in parts] == sorted((part.tokens for part in parts), reverse=True)
    for bucket in {part.bucket for part in parts}:
        sizes = [len(part.rows) for part in parts if part.bucket == bucket]
        assert max(sizes) - min(sizes) <= 1
        assert len(sizes) == -(-sum(sizes) // max(1, budget // bucket))
    lengths, budget = draw_lengths(draw), draw_budget(draw)
    parts = plan(lengths, budget, draw.randint(2, 64))
    assert len(parts) >= len(plan(lengths, budget))
    crumbs = sum(1 for part in parts if part.tokens < min(budget, LEAST_TOKENS) / 2)
    assert crumbs <= len({part.bucket for part in parts}) + sum(len(part.rows) == 1 for part in parts)


def test_rows_that_read_long_prefixes_are_fewer() -> None:
    def most(prefix: int) -> int:
        return max(len(part.rows) for part in split([planned_row(n, 8, prefix=prefix) for n in range(200)], 2048))

    assert [most(prefix) for prefix in (0, 32, 256, 1024, 1 << 20)] == [200, 200, 50, 16, 1]


def test_few_rows_keep_all_streams_at_work_and_those_that_may_kill_run_alone_and_first() -> None:
    for count, sizes in ((64, [16] * 4), (16, [4] * 4), (2, [2])):
        assert [len(part.rows) for part in plan([32] * count, 4096, 4)] == sizes
    # Parts of unlike lengths are split only where streams are done earlier.
    assert [(p.bucket, len(p.rows)) for p in plan([64] * 5 + [40] * 8, 4096, 2)] == [(64, 5), (40, 8)]
    assert len(plan([64] * 12 + [40] * 2, 4096, 2)) > 2
    rows = [planned_row(place, 8) for place in range(5)]
    parts = split(rows, 4096, deadly={rows[1].digest, rows[3].digest})
    assert [places(part) for part in parts] == [[1], [3], [0, 2, 4]]


def test_padding_keeps_tokens_in_place_and_masks_the_rest(draw: random.Random) -> None:
    tokens = [[draw.randint(0, 30_000) for _ in range(draw.randint(1, 40))] for _ in range(draw.randint(1, 20))]
    pad_id, bucket = draw.randint(0, 30_000), max(map(len, tokens)) + draw.randint(0, 24)
    spec, group = make_spec(8).model_copy(update={"pad_id": pad_id}), np.arange(len(tokens))
    padded = pad(tokens_of(tokens), group, bucket, spec)
    assert set(padded.feeds) == set(spec.row_inputs)
    assert {array.dtype for array in padded.feeds.values()} == {np.dtype(np.int64)}
    assert padded.group is group
    types = padded.feeds["token_type_ids"].tolist()
    for row, own, ids, kinds in zip(
        tokens, padded.attention_mask.tolist(), padded.input_ids.tolist(), types, strict=True
    ):
        rest = bucket - len(row)
        assert ids == row + [pad_id] * rest
        assert own == [1] * len(row) + [0] * rest
        assert kinds == [number % 2 for number in row] + [0] * rest
    without = pad(tokens_of(tokens), group, bucket, spec.model_copy(update={"token_types": False}))
    assert set(without.feeds) == {"input_ids", "attention_mask", "group"}


def test_a_row_without_tokens_becomes_one_padding_token_that_is_seen() -> None:
    padded = pad(tokens_of([[], [7, 8]]), np.array([0, 1]), 4, make_spec(8).model_copy(update={"pad_id": 3}))
    assert padded.input_ids.tolist() == [[3, 3, 3, 3], [7, 8, 3, 3]]
    assert padded.attention_mask.tolist() == [[1, 0, 0, 0], [1, 1, 0, 0]]
