"""A row's bits and status are its own: alone, and in any mix with any other rows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from making import TASKS, WORDS
from scoremux_client.contract import Status
from scoremux_engine import Engine
from scoremux_engine.bank.residents import Pool
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.model.buckets import SizeClass
from scoremux_engine.runners.choose import DEFAULT
from scoremux_engine.scoring.row_plan import Texts
from scoremux_engine.store.store import Store

Row = tuple[str | bytes, str | bytes]
"""Text, task."""

good_texts = st.lists(st.sampled_from(WORDS), max_size=70).map(" ".join) | st.text(max_size=60)
good_rows: st.SearchStrategy[Row] = st.tuples(good_texts, st.sampled_from(sorted(TASKS)))
BAD_ROWS: list[Row] = [
    ("the router", "no-such-task"),
    ("the router", "t-1@" + "0" * 64),
    ("the router", ""),
    ("the router", "t-1@"),
    ("the router", b"\xff"),
    (b"\xff\xfe", "t-1"),
    ("half a pair \ud800", "t-2"),
    ("x" * (1 << 16) + "x", "t-3"),
]
mixes = st.lists(good_rows | st.sampled_from(BAD_ROWS), min_size=1, max_size=24)
copies = st.builds(lambda row, count: [row] * count, good_rows, st.integers(1, 40))


@dataclass(frozen=True)
class Bits:
    """What a row got, to the last bit. The probabilities are from a run that was asked for embeddings."""

    logits: bytes
    embedding: bytes
    probabilities: bytes
    level: int
    score: bytes
    status: bytes
    version: bytes
    tokens: int
    truncated: bool


class Lone:
    """An engine that remembers what each row got alone, and what rows got together."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.alone = cache(self._alone)

    def together(self, rows: list[Row]) -> list[Bits]:
        texts, tasks = split(rows)
        columns = self._engine.score_columns(texts, tasks, embeddings=True)
        logits = self._engine.logits(texts, tasks)
        return [Bits(*row) for row in zip(bits(logits), *map(bits_of_column, ordered(columns)), strict=True)]

    def _alone(self, row: Row) -> Bits:
        return self.together([row])[0]


def split(rows: list[Row]) -> tuple[Texts, Texts]:
    return [text for text, _ in rows], [task for _, task in rows]


def ordered(columns: dict[str, npt.NDArray[np.generic]]) -> list[tuple[str, npt.NDArray[np.generic]]]:
    names = ("EMBEDDING", "PROBABILITIES", "LEVEL", "SCORE", "STATUS", "VERSION", "TOKENS", "TRUNCATED")
    return [(name, columns[name]) for name in names]


def bits(array: npt.NDArray[np.generic]) -> list[bytes]:
    return [row.tobytes() for row in array]


def bits_of_column(column: tuple[str, npt.NDArray[np.generic]]) -> list[object]:
    name, array = column
    return list(bits(array)) if name in ("EMBEDDING", "PROBABILITIES", "SCORE") else array[:, 0].tolist()


@pytest.fixture(scope="module")
def engine(small_repository: Path) -> Lone:
    return Lone(Engine.open(small_repository))


@pytest.fixture(scope="module")
def cramped(small_repository: Path) -> list[Lone]:
    """Engines that put a few rows into a micro-batch, and whose bank holds no tables, or those of two tasks."""
    backbone, store = Backbone.open(small_repository / "backbone" / "1"), Store(small_repository / "store")
    slot_bytes = Pool.bytes_of(backbone.spec, SizeClass(8, 32), {})
    banks = [Engine.open(small_repository, bank_bytes=int(slots * slot_bytes)) for slots in (0, 2.5)]
    return [Lone(engine) for engine in (Engine(backbone, store, DEFAULT.make(backbone), budget_tokens=48), *banks)]


@settings(max_examples=40)
@given(rows=mixes | copies)
def test_a_row_has_the_same_bits_alone_and_in_any_mix(engine: Lone, cramped: list[Lone], rows: list[Row]) -> None:
    expected = [engine.alone(row) for row in rows]
    for each in (engine, *cramped):
        assert each.together(rows) == expected


@settings(max_examples=40)
@given(rows=mixes)
def test_a_good_row_is_scored_and_a_bad_row_is_not_whatever_is_beside_it(engine: Lone, rows: list[Row]) -> None:
    for row, got in zip(rows, engine.together(rows), strict=True):
        levels = 0 if row in BAD_ROWS else TASKS[str(row[1])][1]
        probabilities = np.frombuffer(got.probabilities, np.float32)
        assert (got.status == b"OK") == (levels > 0)
        assert Status(got.status.decode()) in Status
        assert (got.level >= 0) == (got.version != b"") == (got.tokens > 0) == (levels > 0)
        assert int((probabilities > 0).sum()) == levels
        assert np.isfinite(np.frombuffer(got.logits, np.float32)).sum() == levels
