"""Client, gRPC and Triton at saturation against the engine in this process, on the same rows.

python -m benchmarks.client_throughput --data ../shared/data/saf --repository REPO
"""

from __future__ import annotations

import argparse
import tempfile
from contextlib import ExitStack
from pathlib import Path

from benchmarks.provenance import record
from benchmarks.saf import prepare
from benchmarks.timing import interleave, ratio
from benchmarks.workload import RUNNERS, sample
from scoremux_client import Response, ScoringClient
from scoremux_engine import Engine
from scoremux_server.endpoints import Endpoints
from scoremux_server.profile import Profile
from scoremux_server.server import Server

COMMAND = "python -m benchmarks.client_throughput --data SAF"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the SAF folder")
    parser.add_argument("--repository", type=Path, help="an exported MiniLM with the 27 tasks; made if not given")
    parser.add_argument("--rows", type=int, default=1500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runner", choices=RUNNERS, default="onnxruntime float32")
    args = parser.parse_args()
    rows = sample(args.data, args.rows)
    texts, tasks = [row.text for row in rows], [row.task for row in rows]
    responses = [Response(row.task, row.text) for row in rows]
    choice = RUNNERS[args.runner]
    with ExitStack() as held:
        repository = args.repository or prepare(Path(held.enter_context(tempfile.TemporaryDirectory())))
        server = held.enter_context(
            Server(repository, Endpoints.choose(), profile=Profile.of(choice), log=Path("/dev/null"))
        )
        engine = Engine.open(repository, runner=choice)
        # Identical rows are sent, since the engine computes them too.
        client = held.enter_context(ScoringClient(server.endpoints.grpc_url, deduplicate=False))
        assert client.score(responses) == engine.score(texts, tasks)
        timings = interleave(
            {"engine": lambda: engine.score(texts, tasks), "client": lambda: client.score(responses)}, args.rounds
        )
    share = ratio(timings, "client", "engine")
    figures = {
        name: {"rows_per_s": args.rows / timing.median_s, "spread": timing.spread} for name, timing in timings.items()
    }
    print(args.runner, figures, f"share {share:.3f}")
    record(
        "client_throughput",
        COMMAND,
        {"runner": args.runner, "rows": args.rows, "rounds": args.rounds, "share": share, **figures},
    )


if __name__ == "__main__":
    main()
