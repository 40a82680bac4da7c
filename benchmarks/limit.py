"""How much of the machine's matmul peak a score uses at each precision, and where the rest of the time goes.

    python -m benchmarks.limit --data ../shared/data/saf

512 SAF rows of 27 tasks as one gRPC request; everything takes turns with the matrix products that make the peak. The
parts are differences: served less engine, engine less tokeniser and backbone, backbone less the same without sites;
inside that, OpenVINO's own profile of its layers.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.lora_price import closed_backbone
from benchmarks.peak import attention_flops, flops, linear_flops, products
from benchmarks.provenance import record
from benchmarks.saf import SafRow, minilm, prepare
from benchmarks.timing import Timing, interleave
from benchmarks.workload import Padded, padded, sample
from scoremux_client import Response, ScoringClient
from scoremux_engine import Engine
from scoremux_engine.backbone import Backbone
from scoremux_engine.runners.choose import RunnerChoice
from scoremux_engine.runners.openvino import OpenVinoRunner
from scoremux_engine.runners.precisions import PRECISIONS
from scoremux_engine.runners.streams import Streams
from scoremux_engine.scoring.tokens import Tokenizer
from scoremux_engine.tables import Tables
from scoremux_server.endpoints import Endpoints
from scoremux_server.profile import Profile
from scoremux_server.server import Server

COMMAND = "python -m benchmarks.limit --data SAF"
ROWS = 512
_LINEAR = ("FullyConnected", "FullyConnectedCompressed")
_ATTENTION = ("ScaledDotProductAttention", "MatMul", "Softmax", "Subgraph")
"""OpenVINO fuses the attention of a layer into one Subgraph."""


class Profiled(OpenVinoRunner):
    """The runner with OpenVINO's clocks running."""

    def _options(self, streams: Streams) -> dict[str, Any]:
        return {**super()._options(streams), "PERF_COUNT": True}

    def seconds(self) -> dict[str, float]:
        """Return how long the last micro-batch was in layers of each type."""
        request = self._idle.get()  # the last to be put back
        self._idle.put(request)
        spent: dict[str, float] = {}
        for layer in request._request.get_profiling_info():
            spent[layer.node_type] = spent.get(layer.node_type, 0.0) + layer.real_time.total_seconds()
        return spent


def shares(work: Padded, head: Tables, runner: Profiled) -> dict[str, float]:
    """Return the shares of a workload's time that Linears and attention take in the backbone.

    Raises RuntimeError where OpenVINO names its layers otherwise.
    """
    spent = {"linear": 0.0, "attention": 0.0, "other": 0.0}
    for ids, mask, group in work.parts:
        runner.run(ids, mask, group, head)
        runner.run(ids, mask, group, head)  # a shape's first run makes its kernels
        for kind, seconds in runner.seconds().items():
            part = "linear" if kind in _LINEAR else "attention" if kind in _ATTENTION else "other"
            spent[part] += seconds
    if not spent["linear"] or not spent["attention"]:
        raise RuntimeError("OpenVINO's profile has no Linears or no attention by the names known here")
    return {part: seconds / sum(spent.values()) for part, seconds in spent.items()}


def waterfall(
    seconds: dict[str, float], inside: dict[str, float], lengths: list[int], padding: float, peak: float
) -> dict[str, float]:
    """Split the served time into parts that add up to it, in seconds.

    seconds: medians of `served`, `engine`, `tokenise`, `sites` and `closed`; inside: see `shares`; padding: share of
    the tokens computed that pad; peak: operations a second.
    """
    closed, real = seconds["closed"], 1 - padding
    return {
        "matrix products at peak": flops(lengths) / peak,
        "Linears below peak": inside["linear"] * closed * real - linear_flops(lengths) / peak,
        "attention": inside["attention"] * closed * real - attention_flops(lengths) / peak,
        "other layers": inside["other"] * closed * real,
        "padding": closed * padding,
        "LoRA": seconds["sites"] - closed,
        "tokenising": seconds["tokenise"],
        "Python": seconds["engine"] - seconds["tokenise"] - seconds["sites"],
        "gRPC and Triton": seconds["served"] - seconds["engine"],
    }


def measure(precision: str, rows: list[SafRow], repository: Path, rounds: int) -> dict[str, Any]:
    """Return the figures of one precision."""
    choice = RunnerChoice("openvino", precision=precision)
    texts, tasks = [row.text for row in rows], [row.task for row in rows]
    responses = [Response(row.task, row.text) for row in rows]
    with ExitStack() as held:
        folder = Path(held.enter_context(tempfile.TemporaryDirectory()))
        server = held.enter_context(
            Server(repository, Endpoints.choose(), profile=Profile.of(choice), log=Path("/dev/null"))
        )
        client = held.enter_context(
            ScoringClient(server.endpoints.grpc_url, chunk_rows=ROWS, window=1, deduplicate=False)
        )
        engine = Engine.open(repository, runner=choice)
        work, tokenizer = padded(engine, rows), Tokenizer(engine.backbone)
        closed: Backbone = closed_backbone(engine.backbone, folder, str(minilm()))
        head = Tables({n: a for n, a in work.tables.arrays.items() if n in closed.spec.table_inputs})
        with_sites, without = choice.make(engine.backbone), choice.make(closed)
        works: dict[str, Callable[[], object]] = {
            "served": lambda: client.score(responses),
            "engine": lambda: engine.score_columns(texts, tasks),
            "tokenise": lambda: tokenizer.encode(texts),
            "sites": lambda: work.run(with_sites),
            "closed": lambda: work.run(without, head),
        }
        peaks = products(precision)
        timings = interleave({**works, **{name: product.run for name, product in peaks.items()}}, rounds, warm_up=2)
        inside = shares(work, head, Profiled(closed, precision))
    name, peak = max(((n, p.operations / timings[n].median_s) for n, p in peaks.items()), key=lambda pair: pair[1])
    padding = 1 - work.tokens / sum(ids.size for ids, _, _ in work.parts)
    return figures(timings, works, inside, work.lengths, padding, peak) | {"peak_by": name}


def figures(
    timings: dict[str, Timing],
    works: dict[str, Callable[[], object]],
    inside: dict[str, float],
    lengths: list[int],
    padding: float,
    peak: float,
) -> dict[str, Any]:
    """Return what the row has."""
    seconds = {name: timings[name].median_s for name in works}
    return {
        "peak_per_s": peak,
        "share_of_peak": {n: flops(lengths) / peak / seconds[n] for n in ("served", "engine", "sites", "closed")},
        "rows_per_s": {n: len(lengths) / seconds[n] for n in seconds},
        "spread": {n: timings[n].spread for n in works},
        "padding": padding,
        "waterfall_s": waterfall(seconds, inside, lengths, padding, peak),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the SAF folder")
    parser.add_argument("--repository", type=Path, help="an exported MiniLM with the 27 tasks; made if not given")
    parser.add_argument("--precision", nargs="*", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    rows = sample(args.data, ROWS)
    with ExitStack() as held:
        repository = args.repository or prepare(Path(held.enter_context(tempfile.TemporaryDirectory())))
        for precision in args.precision:
            row = measure(precision, rows, repository, args.rounds)
            record("limit", COMMAND, {"runner": f"openvino {precision}", "rows": ROWS, "rounds": args.rounds, **row})
            table = Table("part", "ms", "share", title=f"{precision}: peak {row['peak_per_s'] / 1e9:,.0f} Gop/s")
            whole = sum(row["waterfall_s"].values())
            for part, seconds in row["waterfall_s"].items():
                table.add_row(part, f"{seconds * 1000:,.1f}", f"{seconds / whole:.1%}")
            Console().print(table)
            print(row["peak_by"], {name: round(value, 3) for name, value in row["share_of_peak"].items()})


if __name__ == "__main__":
    main()
