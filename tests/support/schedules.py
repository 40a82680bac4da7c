"""Requests to schedule: rows that are numbers, without a model, and random ones whose bits are compared."""

import random
import threading
import time
from collections import Counter
from functools import partial

import numpy as np

from making import WORDS
from scoremux_engine import Engine
from scoremux_engine.bank.residents import Version
from scoremux_engine.errors import DroppedError
from scoremux_engine.model.buckets import SizeClass
from scoremux_engine.model.tokens import Tokens
from scoremux_engine.packages.task import Task
from scoremux_engine.runners.runner import Outputs
from scoremux_engine.scoring.observer import BatchTrace, Columns
from scoremux_engine.scoring.row_plan import PlannedRow, RowPlan, RowTexts
from scoremux_engine.scoring.row_request import ANY_TERMS, Arrival, RowRequest, Tenant, Terms

TASK = Task(id="t", levels=(0, 1))
Row = tuple[int, int, int]


class NoVersions:
    """What a request of the tests has in place of a bank's versions."""

    def close(self) -> None: ...


def make_request(names: list[Row], terms: Terms = ANY_TERMS, arrived: float | None = None) -> RowRequest:
    """Return a request of rows, each a number that names it, its bucket and its rank class."""
    rows = []
    for place, (name, bucket, rank) in enumerate(names):
        version = Version(TASK, f"v-{rank}", SizeClass(rank, 8), 2)
        rows.append(PlannedRow(place, version, Tokens([name], [0], False), None, 0, bucket))
    out = Outputs(np.full((len(rows), 2), np.nan, np.float32))
    arrival = Arrival(RowTexts([], []), terms, at=time.monotonic() if arrived is None else arrived)
    return RowRequest(arrival, RowPlan([], [], rows), NoVersions(), out, BatchTrace())  # type: ignore[arg-type]


def run_schedules(engine: Engine, requests: int, seed: int) -> Counter[str]:
    """Submit requests of random sizes, tokens, priorities, deadlines and ends, up to 12 at once.

    Return how many rows have the bits that they have alone ("same"), others ("changed"), and were "dropped".
    """
    draw, counts = random.Random(seed), Counter[str]()
    rows = [
        (" ".join(draw.choices(WORDS, k=round(40 ** draw.random()))), draw.choice(engine.bank.tasks)) for _ in range(60)
    ]
    alone = {row: _bits(engine.score_columns([row[0]], [row[1]], embeddings=True), 0) for row in rows}
    free, lock = threading.Semaphore(12), threading.Lock()

    def count(mix: list[tuple[str, str]], outcome: Columns | Exception) -> None:
        with lock:
            if isinstance(outcome, DroppedError):
                counts["dropped"] += len(mix)
            elif isinstance(outcome, Exception):
                counts[type(outcome).__name__] += len(mix)
            else:
                counts.update("same" if _bits(outcome, n) == alone[row] else "changed" for n, row in enumerate(mix))
        free.release()

    for _ in range(requests):
        free.acquire()
        mix = draw.choices(rows, k=round(24 ** draw.random()))
        ends = time.monotonic() + draw.uniform(0.002, 0.05) if draw.random() < 0.2 else 0.0
        terms = Terms(
            is_cancelled=partial(_is_over, ends),
            deadline=time.monotonic() + draw.choice((0.02, 1e3, 1e3, 1e3)),
            batch=draw.random() < 0.3,
            tenant=Tenant(f"token-{draw.randrange(4)}", draw.randint(1, 5)),
        )
        texts, tasks = zip(*mix, strict=True)
        engine.submit(Arrival(RowTexts(texts, tasks), terms, pooled=True, done=partial(count, mix)))
    for _ in range(12):
        free.acquire()
    return counts


def _is_over(ends: float) -> bool:
    return bool(ends) and time.monotonic() > ends


def _bits(columns: Columns, row: int) -> bytes:
    return b"".join(columns[name][row].tobytes() for name in ("LEVEL", "PROBABILITIES", "EMBEDDING"))
