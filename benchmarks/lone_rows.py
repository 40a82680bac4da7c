"""Lone rows, sent by a Poisson process and timed from when they are due, and a batch job that disturbs them."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.stores import Rows, pool_of
from scoremux_client import Response, Retries, ScoringClient, TransportError

VICTIMS = ("triton_python_backend_stub", "tritonserver")
"""Processes that are killed."""
RAMP_S = 3.0
"""From the start of a disturbance to the first measurement."""
Send = Callable[[Response], object]

SECONDS: dict[str, Any] = {"type": float, "default": 20.0, "help": "how long each phase lasts (default: %(default)s)"}


def job(stop: threading.Event, url: str, corpus: str, task: str | None = None) -> int:
    """Score rows, of one task or of all, as a batch job with 8 requests in flight until `stop`; return their number."""
    draw, scored = random.Random(1), 0
    pool = [(task or own, text) for own, text in pool_of(corpus)]

    def rows() -> Iterator[Response]:
        while not stop.is_set():
            yield Response(*draw.choice(pool))

    with ScoringClient(url, batch=True, window=8, deduplicate=False, retries=Retries(patience_s=60)) as client:
        for _ in client.score_iter(rows()):
            scored += 1
    return scored


@dataclass(frozen=True)
class Lone:
    """Latencies of rows that were sent one by one, in ms, and how many had no score."""

    ms: list[float]
    failed: int

    def at(self, quantile: float) -> float:
        return float(np.quantile(self.ms, quantile))


def send_lone(sends: Sequence[Send], pool: Rows, rate: float, seconds: float, seed: int) -> Lone:
    """Send lone rows by a Poisson process, by turns in each way; time each from when it was due."""
    draw, due = random.Random(seed), time.perf_counter()
    calls: list[Future[float | None]] = []

    def timed(send: Send, row: Response, at: float) -> float | None:
        try:
            send(row)
        except TransportError:
            return None
        return 1e3 * (time.perf_counter() - at)

    with ThreadPoolExecutor(64) as callers:
        end = due + seconds
        while (due := due + draw.expovariate(rate)) < end:
            time.sleep(max(0.0, due - time.perf_counter()))
            send = sends[len(calls) % len(sends)]
            calls.append(callers.submit(timed, send, Response(*draw.choice(pool)), due))
        took = [call.result() for call in calls]
    return Lone([ms for ms in took if ms is not None], took.count(None))


def one_by_one(client: ScoringClient) -> Send:
    return lambda row: client.score([row])
