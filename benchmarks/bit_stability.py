"""One response in thousands of random mixes, every runner and precision: is any bit ever different?

    python -m benchmarks.bit_stability --data ../shared/data/saf --mixes 5000 --most-rows 512

Mixes have 1 to `--most-rows` rows; sizes are drawn evenly on a logarithmic scale, so that small batches, where kernels
change, come as often as large ones. Tasks come in five popularity mixes, the other rows from the SAF training split.
Only rows of one padded length meet in a micro-batch, so short responses alone test as much in less time.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.provenance import record
from benchmarks.saf import prepare, read_rows
from benchmarks.traffic import POPULARITIES, popular
from benchmarks.workload import RUNNERS
from scoremux_engine import Engine

COMMAND = "python -m benchmarks.bit_stability --data SAF"


def count_changed(engine: Engine, fillers: Sequence[str], mixes: int, most_rows: int, seed: int = 5000) -> int:
    """Score one response alone, then in `mixes` mixes at random places; return in how many its bits differ."""
    draw = random.Random(seed)
    watched = draw.sample(fillers, 8)
    alone: dict[tuple[str, str], bytes] = {}
    changed = 0
    for number in range(mixes):
        size = round(most_rows ** draw.random())
        tasks = popular(POPULARITIES[number % len(POPULARITIES)], engine.bank.tasks, size, draw)
        texts, place = draw.choices(fillers, k=size), draw.randrange(size)
        texts[place] = draw.choice(watched)
        key = texts[place], tasks[place]
        if key not in alone:
            alone[key] = engine.logits([key[0]], [key[1]])[0].tobytes()
        changed += engine.logits(texts, tasks)[place].tobytes() != alone[key]
    return changed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the SAF folder")
    parser.add_argument("--repository", type=Path, help="default: MiniLM and the 27 example adapters")
    parser.add_argument("--mixes", type=int, default=5000)
    parser.add_argument("--most-rows", type=int, default=512)
    parser.add_argument("--most-characters", type=int, help="only responses this short: quick, and full micro-batches")
    parser.add_argument("--runners", nargs="*", default=list(RUNNERS))
    args = parser.parse_args()
    fillers = [row.text for row in read_rows(args.data, "train")]
    fillers = [text for text in fillers if len(text) <= (args.most_characters or len(text))]
    table = Table("runner", "mixes", "with other bits")
    with tempfile.TemporaryDirectory() as scratch:
        repository = args.repository or prepare(Path(scratch))
        for name in args.runners:
            engine = Engine.open(repository, runner=RUNNERS[name])
            changed = count_changed(engine, fillers, args.mixes, args.most_rows)
            table.add_row(name, f"{args.mixes:,}", str(changed))
            figures = {"runner": name, "mixes": args.mixes, "most_rows": args.most_rows, "changed": changed}
            figures["most_characters"] = args.most_characters
            record("bit_stability", COMMAND, {"backbone": engine.backbone.spec.architecture, **figures})
    Console().print(table)


if __name__ == "__main__":
    main()
