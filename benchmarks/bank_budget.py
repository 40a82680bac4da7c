"""Ten thousand registered tasks under Zipf traffic: a bank with room for 200 against one with room for all.

    python -m benchmarks.bank_budget --data ../shared/data/saf --tasks 10000 --slots 200

Both engines score the same batches, drawn anew every round, once warm. Also: how long a server takes to start on that
store, against one of 27 tasks.
"""

from __future__ import annotations

import argparse
import random
import shutil
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.provenance import record
from benchmarks.residency import multiply
from benchmarks.saf import prepare
from benchmarks.timing import interleave, ratio
from benchmarks.traffic import popular
from benchmarks.workload import sample
from scoremux_engine import Engine
from scoremux_engine.backbone import Backbone
from scoremux_engine.runners.choose import RunnerChoice
from scoremux_engine.store.store import Store
from scoremux_server.endpoints import Endpoints
from scoremux_server.profile import Profile
from scoremux_server.server import Server

COMMAND = "python -m benchmarks.bank_budget --data SAF"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the SAF folder")
    parser.add_argument("--tasks", type=int, default=10000)
    parser.add_argument("--slots", type=int, default=200)
    parser.add_argument("--rows", type=int, default=512, help="rows a batch")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--precision", default="int8")
    args = parser.parse_args()
    runner = RunnerChoice("openvino", precision=args.precision)
    texts = [row.text for row in sample(args.data, args.rows)]
    with tempfile.TemporaryDirectory() as scratch:
        few = prepare(Path(scratch) / "few")
        many = Path(scratch) / "many"
        shutil.copytree(few / "backbone", many / "backbone")
        register(many, args.tasks, Path(scratch) / "adapters")
        opened = {name: start_s(repository, runner) for name, repository in (("27", few), (str(args.tasks), many))}
        roomy = Engine.open(many, runner=runner)
        roomy.bank.load_live()
        slot_bytes = roomy.bank.stats.used_bytes // roomy.bank.stats.resident
        tight = Engine.open(many, runner=runner, bank_bytes=args.slots * slot_bytes)
        engines = {"all resident": roomy, f"{args.slots} resident": tight}
        draws = {name: random.Random(1) for name in engines}
        order = random.Random(2).sample(roomy.bank.tasks, args.tasks)

        def score(name: str) -> None:
            tasks = popular("zipf", order, args.rows, draws[name], shuffle=False)
            engines[name].logits(texts, tasks)

        works = {name: lambda n=name: score(n) for name in engines}
        timings = interleave(works, args.rounds, warm_up=3)
    share = ratio(timings, f"{args.slots} resident", "all resident")
    before, stats = args.rounds + 3, tight.bank.stats
    table = Table("", f"openvino {args.precision}, {args.tasks:,} tasks, Zipf")
    for name, timing in timings.items():
        table.add_row(f"rows/s, {name}", f"{args.rows / timing.median_s:,.0f}  (spread {timing.spread:.2f})")
    table.add_row("share", f"{share:.3f}")
    table.add_row("loads a batch", f"{stats.loads / before:,.0f}")
    for name, engine in engines.items():
        held = engine.bank.stats
        table.add_row(f"memory, {name}", f"{held.used_bytes / 1e6:,.0f} MB, {held.resident:,} versions")
    table.add_row("server start", ", ".join(f"{n} tasks {s:.2f} s" for n, s in opened.items()))
    Console().print(table)
    figures = {"tasks": args.tasks, "slots": args.slots, "rows": args.rows, "precision": args.precision}
    record("bank_budget", COMMAND, {**figures, "share": share, "loads": stats.loads / before, "start_s": opened})


def register(repository: Path, tasks: int, scratch: Path) -> None:
    """Publish so many tasks, the 27 over and over."""
    backbone, store = Backbone.open(repository / "backbone" / "1"), Store(repository / "store")
    store.add(multiply(tasks, scratch), backbone)
    shutil.rmtree(scratch)


def start_s(repository: Path, runner: RunnerChoice) -> float:
    """Return seconds until a Triton on `repository` answers its canaries."""
    begin = time.perf_counter()
    with Server(repository, Endpoints.choose(), profile=Profile.of(runner)):
        return time.perf_counter() - begin


if __name__ == "__main__":
    main()
