"""Serving under load with perf_analyzer: closed loop and Poisson arrivals, one row and 64 a request, gRPC and HTTP.

    python -m benchmarks.perf --data ../shared/data/saf --batch 1

Loads take turns, `--passes` times. After every load Triton's own counters must have grown by exactly what was sent.
perf_analyzer runs on the server's own cores.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import perf_input
from benchmarks.perf_analyzer import Load, Measured, find_program, measure
from benchmarks.perf_report import Point, knee, table
from benchmarks.provenance import record
from benchmarks.saf import prepare, read_rows
from benchmarks.workload import RUNNERS
from scoremux_engine.backbone import Backbone
from scoremux_engine.scoring.tokens import Tokenizer
from scoremux_server.endpoints import Endpoints
from scoremux_server.profile import Profile
from scoremux_server.server import Server

COMMAND = "python -m benchmarks.perf --data SAF"
PROTOCOLS = ("grpc", "http")
CONCURRENCY = {1: (1, 4, 16, 64, 128), 64: (1, 2, 4, 8)}
"""Rows a request → requests under way."""
SHARES = (0.3, 0.6, 0.8, 0.95, 1.1)
"""Arrivals as shares of the most that the closed loop reached."""
FEWEST_REQUESTS, FIRST_GUESS_ROWS_PER_S = 8, 100.0

Series = tuple[str, int, str]
"""Protocol, rows a request, mode."""


@dataclass
class Sweep:
    """All that was measured so far, by series and level."""

    program: str
    grpc_url: str
    http_url: str
    data: Path
    seconds: float
    measured: dict[Series, dict[float, list[Measured]]]

    def run(self, series: Series, level: float) -> None:
        """Measure one load for about `seconds`. Raises RuntimeError where a request went missing."""
        protocol, batch, mode = series
        rate = level if mode == "rate" else self._known(series) / batch
        # In a closed loop, the first and last of those under way meet no full house: they must be few. perf_analyzer
        # wants at least a second's requests in an open one.
        fewest = max(FEWEST_REQUESTS, math.ceil(level)) if mode == "rate" else 3 * int(level)
        load = Load(protocol, batch, mode, level, max(fewest, round(self.seconds * rate)))
        got = measure(load, self.program, self.grpc_url, self.http_url, self.data)
        if got.missing or got.counted.rows != got.sent * batch:
            raise RuntimeError(f"{load}: sent {got.sent}, answered {got.answered}, Triton counted {got.counted}")
        print(f"{protocol} {batch} {mode} {level:g}: {got.point.rows_per_s:,.0f} rows/s", file=sys.stderr)
        self.measured.setdefault(series, {}).setdefault(level, []).append(got)

    def most_rows_per_s(self, batch: int) -> float:
        """Return the best median that any protocol's closed loop reached."""
        closed = [levels for (_, rows, mode), levels in self.measured.items() if (rows, mode) == (batch, "concurrency")]
        return max(statistics.median(m.point.rows_per_s for m in runs) for levels in closed for runs in levels.values())

    def _known(self, series: Series) -> float:
        runs = [run for levels in self.measured.get(series, {}).values() for run in levels]
        return runs[-1].point.rows_per_s if runs else FIRST_GUESS_ROWS_PER_S


def middle(runs: Iterable[Measured]) -> Point:
    """Return the point of medians over the passes."""
    points = [astuple(run.point) for run in runs]
    return Point(points[0][0], *(statistics.median(column) for column in list(zip(*points, strict=True))[1:]))


def figures(levels: dict[float, list[Measured]]) -> dict[str, Any]:
    """Return a series as its row has it."""
    points = [middle(levels[level]) for level in sorted(levels)]
    rows = []
    for point, level in zip(points, sorted(levels), strict=True):
        rates = [run.point.rows_per_s for run in levels[level]]
        row = {field.name: getattr(point, field.name) for field in fields(Point) if field.name != "mode"}
        row["spread"] = (max(rates) - min(rates)) / point.rows_per_s
        row["batch_rows"] = statistics.median(run.batch_rows for run in levels[level])
        rows.append(row)
    runs = [run for level in levels.values() for run in level]
    requests, missing = sum(run.sent for run in runs), sum(run.missing for run in runs)
    return {"points": rows, "knee": knee(points).level, "requests": requests, "missing": missing}


def sweep(server: Server, program: str, data: Path, args: argparse.Namespace) -> Sweep:
    """Run all loads, in turn."""
    swept = Sweep(program, server.endpoints.grpc_url, server.endpoints.http_url, data, args.seconds, {})
    for _ in range(args.passes):
        for batch in args.batch:
            for level in CONCURRENCY[batch]:
                for protocol in args.protocols:
                    swept.run((protocol, batch, "concurrency"), level)
    for _ in range(args.passes):
        for batch in args.batch:
            most = swept.most_rows_per_s(batch) / batch
            for share in SHARES:
                for protocol in args.protocols:
                    swept.run((protocol, batch, "rate"), round(share * most, 2))
    return swept


def tokens_a_row(repository: Path, texts: list[str]) -> float:
    """Return the mean length of what is sent: rows/s say little without it."""
    encoded = Tokenizer(Backbone.open(repository / "backbone" / "1")).encode(texts)
    return statistics.mean(len(tokens.ids) for tokens in encoded)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the SAF folder")
    parser.add_argument("--repository", type=Path, help="an exported MiniLM with the 27 tasks; made if not given")
    parser.add_argument("--runner", choices=RUNNERS, default="openvino bfloat16")
    parser.add_argument("--batch", type=int, nargs="*", choices=CONCURRENCY, default=list(CONCURRENCY))
    parser.add_argument("--protocols", nargs="*", choices=PROTOCOLS, default=list(PROTOCOLS))
    parser.add_argument("--passes", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0, help="how long each load lasts, about")
    perf_input.add_traffic(parser)
    args = parser.parse_args()
    traffic = perf_input.traffic_of(args)
    program = find_program()
    with ExitStack() as held:
        scratch = Path(held.enter_context(tempfile.TemporaryDirectory()))
        repository = args.repository or prepare(scratch / "repository")
        rows = traffic.draw([(row.task, row.text) for row in read_rows(args.data, "train")])
        perf_input.write(rows, scratch / "load.json")
        tokens = tokens_a_row(repository, [text for _, text in rows])
        profile = Profile.of(RUNNERS[args.runner])
        server = held.enter_context(Server(repository, Endpoints.choose(), profile=profile, log=Path("/dev/null")))
        swept = sweep(server, program, scratch / "load.json", args)
    for (protocol, batch, mode), levels in swept.measured.items():
        points = [middle(levels[level]) for level in sorted(levels)]
        Console().print(table(f"{protocol}, {batch} rows a request, {mode}; {tokens:.0f} tokens a row", points))
        row = {"runner": args.runner, "protocol": protocol, "batch": batch, "mode": mode, "passes": args.passes}
        row["seconds"] = args.seconds
        described = {"traffic": vars(traffic), "tokens_a_row": tokens, **figures(levels)}
        record("perf", f"{COMMAND} --batch {batch} --seconds {args.seconds:g}", {**row, **described})


if __name__ == "__main__":
    main()
