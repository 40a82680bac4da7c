"""The same 27 PEFT adapters and the same responses through every other way to serve them, and through ours.

    python -m benchmarks.peers --data ../shared/data/saf
    python -m benchmarks.peers --data ../shared/data/saf --only PEFT 'scoremux float32'

Every peer runs in a process of its own and scores all rows once a round, in turn with ours. Peers that take gigabytes
are loaded one after the other, the others side by side, ours beside all: 16 GB of memory are enough. Peers whose
packages conflict with ours get a virtual environment under `--scratch`. `--only` leaves out other peers, never ours.
Ctrl-C ends the run and keeps what there is.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.peer_tables import delay
from benchmarks.peers.catalogue import PEERS
from benchmarks.peers.measure import Run
from benchmarks.peers.peer import Floats, PeerSpec
from benchmarks.provenance import record
from benchmarks.saf import SafRow, peft_logits
from benchmarks.workload import sample

COMMAND = "python -m benchmarks.peers --data SAF"


def reference_logits(rows: list[SafRow], scratch: Path) -> Floats:
    """Return PEFT's logits of every row alone, float32 [B, 5], kept in `scratch`."""
    path = scratch / f"reference-{len(rows)}.npy"
    if not path.exists():
        np.save(path, np.array(peft_logits(rows), dtype=np.float32))
    return np.asarray(np.load(path))


def waves(specs: Sequence[PeerSpec]) -> list[list[PeerSpec]]:
    """Return what is loaded together: all peers that are light, then each one that is not; ours every time."""
    ours = [spec for spec in specs if spec.reference]
    light = [spec for spec in specs if not spec.reference and not spec.heavy]
    heavy = [[*ours, spec] for spec in specs if spec.heavy]
    return [[*ours, *light], *heavy] if light or not heavy else heavy


def table(figures: dict[str, dict[str, Any]], rows_per_s: float) -> Table:
    """Return the figures for people."""
    heads = ("", "rows/s", "spread", "ours ×", f"p50 / p99 ms\n{rows_per_s:g} rows/s")
    made = Table()
    for head in (*heads, "RSS MB", "weights\nMB", "max\n|Δlogit|", "other\nbits"):
        made.add_column(head, no_wrap=True)
    for name, row in figures.items():
        if "rows_per_s" not in row:
            made.add_row(name, *["–"] * 8)
            continue
        faster = row["ours_times_as_fast"].get("scoremux bfloat16")
        made.add_row(
            f"{name} (default)" if row["default"] else name,
            f"{row['rows_per_s']:,.0f}",
            f"{row['spread']:.2f}",
            f"{faster:.2f}" if faster else "",
            delay(row),
            *(f"{row[key] / 1e6:,.0f}" if key in row else "" for key in ("rss_bytes", "weights_bytes")),
            f"{row['max_logit_difference']:.1e}",
            str(row.get("bits_changed", "")),
        )
    return made


def remarks(figures: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Yield what each peer cannot do, or why it was not measured."""
    for name, row in figures.items():
        if "rows_per_s" not in row:
            yield f"{name} was not measured: {row.get('refused', 'stopped before')}"
        elif row["cannot"]:
            yield f"{name}: {row['cannot']}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the SAF folder")
    parser.add_argument("--rows", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate", type=float, default=20, help="rows/s of the fixed load")
    parser.add_argument("--seconds", type=float, default=15, help="how long the fixed load lasts")
    parser.add_argument("--only", nargs="*", help="peers whose names contain one of these")
    parser.add_argument("--scratch", type=Path, help="a folder to keep environments and converted models in")
    args = parser.parse_args()
    wanted = args.only or [""]
    specs = [spec for spec in PEERS if spec.reference or any(part in spec.name for part in wanted)]
    rows = sample(args.data, args.rows, seed=args.rows)
    figures: dict[str, dict[str, Any]] = {}
    with contextlib.ExitStack() as held:
        scratch = args.scratch or Path(held.enter_context(tempfile.TemporaryDirectory()))
        scratch.mkdir(parents=True, exist_ok=True)
        reference = reference_logits(rows, scratch)
        with contextlib.suppress(KeyboardInterrupt):
            for wave in waves(specs):
                with contextlib.closing(Run(rows, reference, scratch.absolute())) as run:
                    try:
                        run.load(wave)
                        run.rounds(args.rounds)
                        run.probe(args.rate, args.seconds, known=figures)
                    finally:
                        figures = {**run.rows(), **figures}
    figures = {spec.name: figures[spec.name] for spec in specs if spec.name in figures}
    console = Console(highlight=False)
    console.width = max(console.width, 130)  # into a file too, figures must be whole
    console.print(table(figures, args.rate))
    for remark in remarks(figures):
        console.print(remark, soft_wrap=True)
    settings = {"rows": args.rows, "rounds": args.rounds, "rate_rows_per_s": args.rate, "seconds": args.seconds}
    for name, row in figures.items():
        record("peers", COMMAND, {**settings, "peer": name, **row})


if __name__ == "__main__":
    main()
