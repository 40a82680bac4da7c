"""A fixed load: single rows arrive at random at a given rate, whether or not those before them are done."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from typing import Any

from benchmarks.peers.peer import Peer
from benchmarks.saf import SafRow

MOST_ROWS = 64


def poisson(rows: int, rows_per_s: float, seed: int = 7) -> list[float]:
    """Return arrival times in seconds, the gaps between them exponential."""
    draw, at, times = random.Random(seed), 0.0, []
    for _ in range(rows):
        at += draw.expovariate(rows_per_s)
        times.append(at)
    return times


def serve(peer: Peer, rows: Sequence[SafRow], arrivals_s: Sequence[float], give_up_s: float) -> dict[str, Any]:
    """Score rows as they arrive, all that wait in one batch of 64 at most; return each row's latency in seconds.

    A peer that is still behind after `give_up_s` is cut off: `served` says how many rows it had scored by then.
    """
    start, done, latencies = time.perf_counter(), 0, []
    while done < len(rows):
        now = time.perf_counter() - start
        if now > give_up_s:
            break
        if arrivals_s[done] > now:
            time.sleep(arrivals_s[done] - now)
            continue
        end = done
        while end < len(rows) and end - done < MOST_ROWS and arrivals_s[end] <= now:
            end += 1
        peer.logits(rows[done:end])
        finished = time.perf_counter() - start
        latencies += [finished - arrival for arrival in arrivals_s[done:end]]
        done = end
    return {"latencies_s": latencies, "served": done}
