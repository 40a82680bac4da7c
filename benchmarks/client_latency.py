"""One row through client, gRPC and Triton, over what the engine takes for it in this process.

python -m benchmarks.client_latency --data ../shared/data/saf --repository REPO
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from benchmarks.provenance import record
from benchmarks.saf import SafRow, prepare
from benchmarks.workload import sample
from scoremux_client import Response, ScoringClient
from scoremux_engine import Engine
from scoremux_server.endpoints import Endpoints
from scoremux_server.server import Server

COMMAND = "python -m benchmarks.client_latency --data SAF"
PASSES = 4
"""The first of them warms up. Whole passes in turn: engine and server each keep spinning threads, which would meet."""


def milliseconds(work: Callable[[SafRow], object], rows: list[SafRow]) -> list[float]:
    """Return the time of each row, one after the other."""
    took = []
    for row in rows:
        started = time.perf_counter()
        work(row)
        took.append((time.perf_counter() - started) * 1000)
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the SAF folder")
    parser.add_argument("--repository", type=Path, help="an exported MiniLM with the 27 tasks; made if not given")
    parser.add_argument("--rows", type=int, default=500)
    args = parser.parse_args()
    rows = sample(args.data, args.rows)
    passes: dict[str, list[list[float]]] = {}
    with ExitStack() as held:
        repository = args.repository or prepare(Path(held.enter_context(tempfile.TemporaryDirectory())))
        server = held.enter_context(Server(repository, Endpoints.choose(), log=Path("/dev/null")))
        engine = Engine.open(repository)
        by_grpc = held.enter_context(ScoringClient(server.endpoints.grpc_url))
        by_http = held.enter_context(ScoringClient(server.endpoints.http_url))
        works: dict[str, Callable[[SafRow], object]] = {
            "engine": lambda row: engine.score([row.text], [row.task]),
            "gRPC": lambda row: by_grpc.score([Response(row.task, row.text)]),
            "HTTP": lambda row: by_http.score([Response(row.task, row.text)]),
            "gRPC, no engine": lambda row: by_grpc.score([Response("", row.text)]),
        }
        for number in range(PASSES):
            for name, work in works.items():
                took = milliseconds(work, rows)
                if number:
                    passes.setdefault(name, []).append(took)
    own = np.median(passes.pop("engine"), axis=0)
    nothing = np.array(passes.pop("gRPC, no engine"))
    figures: dict[str, dict[str, float]] = {
        # Every trip counts, less the engine's median for the same row.
        name: {f"{what}_p{p}_ms": float(np.percentile(values, p)) for what, values in kinds.items() for p in (50, 99)}
        for name, trips in passes.items()
        for kinds in [{"over_engine": np.array(trips) - own, "round_trip": np.array(trips)}]
    }
    figures["gRPC"] |= {f"refused_row_p{p}_ms": float(np.percentile(nothing, p)) for p in (50, 99)}
    for name, values in figures.items():
        print(name, {key: round(value, 2) for key, value in values.items()})
    record("client_latency", COMMAND, {"rows": args.rows, "passes": PASSES - 1, "protocols": figures})


if __name__ == "__main__":
    main()
