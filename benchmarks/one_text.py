"""One text for many tasks (traits, elements of a rubric): what sharing the work below the first open site would bring.

    python -m benchmarks.one_text --data SAF --tasks 5 --lowest 0 3 5

Adapters of one task see the same text until the first site that takes their weights. The measurement runs each
micro-batch through the whole graph, and through the part of it below that site.
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks import case, data
from benchmarks.case import Case, Column
from benchmarks.rows import Row
from benchmarks.timing import WARM_UP

LAYERS = 6


class BelowTimer:
    """A runner that also runs the part of the graph below the first open site; seconds: whole, below."""

    def __init__(self, runner: Any, part: Any) -> None:
        self._runner, self._part = runner, part
        self.seconds = [0.0, 0.0]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runner, name)

    def run(self, rows: Any, tables: Any, *, pooled: bool = False) -> Any:
        """Run both, and keep the time of each."""
        feeds = {given.name: rows.feeds[given.name] for given in self._part.get_inputs()}
        started = time.perf_counter()
        self._part.run(None, feeds)
        between = time.perf_counter()
        outputs = self._runner.run(rows, tables, pooled=pooled)
        self.seconds[0] += time.perf_counter() - between
        self.seconds[1] += between - started
        return outputs


def open_part(graph: Path, threads: int) -> Any:
    """Return an ONNX Runtime session of the part of a graph that no adapter's weights reach."""
    import onnx
    import onnxruntime

    model = onnx.load(graph)
    inputs = {given.name for given in model.graph.input}
    of_rows = inputs & {"input_ids", "attention_mask", "token_type_ids"}
    from_rows, from_adapters = set(of_rows), inputs - of_rows
    for node in model.graph.node:
        given = set(node.input)
        if given & from_rows and given & from_adapters:
            break
        for reached in (from_rows, from_adapters):
            if given & reached:
                reached.update(node.output)
    part = onnx.utils.Extractor(model).extract_model(sorted(of_rows), sorted(given & from_rows))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(part.SerializeToString(), options, providers=["CPUExecutionProvider"])


def make_store(lowest: int, tasks: int, repository: Path) -> Path:
    """Export MiniLM with the layers from `lowest` on open, and publish example adapters without their lower layers."""
    from safetensors.numpy import load_file, save_file

    from scoremux_engine.store.store import Store
    from scoremux_export.export_graph import export_backbone
    from scoremux_export.opening.openable import Opening

    if (repository / "store" / "manifest.json").exists():
        return repository
    layers = "|".join(map(str, range(lowest, LAYERS)))
    backbone = export_backbone(str(data.minilm()), Opening(rf"re:.*\.layer\.({layers})\..*(query|value)"), repository)
    folders = data.copies(tasks, repository / "adapters")
    for folder in folders:
        tensors = load_file(folder / data.TENSORS)
        kept = {n: t for n, t in tensors.items() if not (f := re.search(r"\.layer\.(\d+)\.", n)) or int(f[1]) >= lowest}
        save_file(kept, folder / data.TENSORS)
    Store(repository / "store").add(folders, backbone)
    return repository


def one_text(arguments: argparse.Namespace, work: Path) -> Iterable[Row]:
    """Yield a row for each lowest open layer."""
    from scoremux_engine import Engine
    from scoremux_engine.runners.onnxruntime import OnnxRuntimeRunner
    from scoremux_engine.store.store import Store

    texts = [row.text for row in data.sample(case.data_folder(arguments.data), arguments.rows // arguments.tasks)]
    for lowest in arguments.lowest:
        repository = make_store(lowest, arguments.tasks, work / f"lowest-{lowest}-{arguments.tasks}")
        engine = Engine.open(repository)
        tasks = engine.bank.tasks
        runner = OnnxRuntimeRunner(engine.backbone, threads=arguments.threads, streams=1)
        timer = BelowTimer(runner, open_part(engine.backbone.onnx, arguments.threads))
        timed = Engine(engine.backbone, Store(repository / "store"), timer)
        rows = [(text, task) for text in texts for task in tasks]
        for number in range(WARM_UP + arguments.rounds):
            if number == WARM_UP:
                timer.seconds = [0.0, 0.0]
            timed.logits([text for text, _ in rows], [task for _, task in rows])
        whole, below = timer.seconds
        saved = below * (1 - 1 / len(tasks))
        setting = {"data": arguments.data, "rows": len(rows), "tasks": len(tasks), "lowest_open_layer": lowest}
        yield {
            **setting,
            "rows_per_s": arguments.rounds * len(rows) / whole,
            "share_below": below / whole,
            "times_if_shared": whole / (whole - saved),
        }


CASES = (
    Case(
        "one_text",
        "The same text for many tasks: what sharing the work below the first open site would bring (nothing does it)",
        (
            Column("data", "data"),
            Column("tasks a text", "tasks"),
            Column(f"lowest open layer of {LAYERS}", "lowest_open_layer"),
            Column("rows/s", "rows_per_s", "{:,.0f}"),
            Column("share of the time below", "share_below", "{:.3f}"),
            Column("× rows/s if it were shared", "times_if_shared", "{:.2f}"),
        ),
        ("data", "tasks", "lowest_open_layer"),
        one_text,
    ),
)


def main() -> None:
    parser = case.parser(CASES, __doc__, rounds=5)
    parser.add_argument("--tasks", type=int, default=5, help="for each text (default: %(default)s)")
    parser.add_argument("--lowest", type=int, nargs="*", default=[0, 3, 5], help="lowest layers that are open")
    parser.add_argument("--threads", type=int, default=1, help="of the runner (default: %(default)s)")
    case.main(CASES, parser.parse_args())


if __name__ == "__main__":
    main()
