"""What LoRA costs: 27 tasks mixed, against the same graph exported with no sites; the same rows, one run.

    python -m benchmarks.lora_price --data ../shared/data/saf
    python -m benchmarks.lora_price --data ../shared/data/saf --model all-mpnet-base-v2 --sites q,v

The second takes any encoder, with made-up adapters.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table as RichTable

from benchmarks.provenance import record
from benchmarks.saf import minilm, prepare
from benchmarks.timing import interleave, ratio
from benchmarks.workload import RUNNERS, padded, padded_for, random_tables, sample
from scoremux_engine import Engine
from scoremux_engine.backbone import ONNX, Backbone
from scoremux_engine.tables import Tables
from scoremux_export.backbone import export_backbone
from scoremux_export.encoder import Encoder
from scoremux_export.graph import write_graph
from scoremux_export.opened import OpenedModel
from scoremux_export.opening import Opening

COMMAND = "python -m benchmarks.lora_price --data SAF"


def closed_backbone(opened: Backbone, folder: Path, source: str) -> Backbone:
    """Export the same encoder with its head open and no sites."""
    encoder = Encoder.open(source)
    head = opened.spec.head
    write_graph(OpenedModel(encoder.model, (), head), (), head, encoder.max_tokens, folder / ONNX)
    return Backbone(folder, opened.spec.model_copy(update={"sites": ()}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the SAF folder")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--model", help="an encoder (default: MiniLM with the 27 example adapters)")
    parser.add_argument("--sites", default="query,value", help="its sites")
    args = parser.parse_args()
    table = RichTable("runner", "rows/s with 27 tasks", "rows/s without sites", "share", "spread")
    with tempfile.TemporaryDirectory() as scratch, tempfile.TemporaryDirectory() as bare:
        rows = sample(args.data, args.rows)
        if args.model:
            backbone = export_backbone(args.model, Opening(sites=args.sites), Path(scratch))
            work = padded_for(backbone, rows, random_tables(backbone.spec))
        else:
            engine = Engine.open(prepare(Path(scratch)))
            backbone, work = engine.backbone, padded(engine, rows)
        closed = closed_backbone(backbone, Path(bare), args.model or str(minilm()))
        head = Tables({n: a for n, a in work.tables.arrays.items() if n in closed.spec.table_inputs})
        encoder = backbone.spec.source if args.model else "all-MiniLM-L6-v2"
        # As typed, but for where the encoder lies.
        which = f" --model {encoder} --sites {args.sites} --rows {args.rows}" if args.model else ""
        command = f"{COMMAND}{which}"
        for name, choice in RUNNERS.items():
            with_sites, without = choice.make(backbone), choice.make(closed)
            timings = interleave(
                {"sites": lambda r=with_sites: work.run(r), "none": lambda r=without: work.run(r, head)},  # type: ignore[misc]
                args.rounds,
            )
            rates = {name: len(work.lengths) / t.median_s for name, t in timings.items()}
            share = ratio(timings, "sites", "none")
            spread = max(t.spread for t in timings.values())
            table.add_row(name, f"{rates['sites']:,.0f}", f"{rates['none']:,.0f}", f"{share:.3f}", f"{spread:.2f}")
            figures = {"runner": name, "rows_per_s": rates, "share": share, "spread": spread}
            record("lora_price", command, {"encoder": encoder, **figures})
    Console().print(table)


if __name__ == "__main__":
    main()
