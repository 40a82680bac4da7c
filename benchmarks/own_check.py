"""What each start's own check costs, and which wrong kernels it notices (`scoremux_engine.runners.expected`).

    python -m benchmarks own_check --models minilm bert-base
    python -m benchmarks wrong_products --backbone FOLDER

`bert-base` has random weights: times do not depend on them. Each round is a process of its own, as the first call
makes kernels.
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import data
from benchmarks.case import case
from benchmarks.peers.scoremux import PRECISIONS
from benchmarks.rows import Row, load
from benchmarks.stores import export_once
from scoremux_engine.errors import RunnerError
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.runners.choose import ON_CPU, RunnerChoice
from scoremux_engine.runners.expected import Distance, check, distances

EXPORT = "export"
NOISE, SCALE = CHANGES = ("noise", "scale")
FIRST, LARGEST, STEPS, CLOSE = 0.1, 1.0, 8, 0.05
"""Changes of a product, beside the product: the first and the largest that are tried, how many at most, and how close
the last one's distance comes to what is allowed."""
MODELS: dict[str, Any] = {
    "--models": {"nargs": "*", "default": ["minilm"], "choices": ["minilm", "bert-base"]},
    "--backbone": {"help": "the folder of a further model"},
}


def export(name: str, work: Path) -> Backbone:
    """Return an exported model, exported now unless it is there."""
    repository, source = work / Path(name).name, Path(name)
    if name == "minilm":
        source = data.minilm()
    elif name == "bert-base":
        source = _bert_base(work / "models" / name)
    export_once(str(source), "query,value", repository)
    return Backbone.open(repository / "backbone" / "1")


def _bert_base(folder: Path) -> Path:
    """Save a model of the configuration of BERT-base with random weights, with MiniLM's tokenizer."""
    import torch
    import transformers

    if not (folder / "config.json").exists():
        torch.manual_seed(0)
        transformers.BertModel(transformers.BertConfig()).save_pretrained(folder)
        transformers.AutoTokenizer.from_pretrained(data.minilm()).save_pretrained(folder)
    return folder


@case(
    columns=(
        "model; runner; precision; seconds = seconds:.2f; slowest = slowest:.2f; processor s = processor_s:.2f; "
        "distance = distance:.1e; allowed = allowed:.1e; from the export's own = own:.1e; "
        "load of the machine = load:.1f"
    ),
    keys="model runner precision",
    options=MODELS,
    defaults={"rounds": 5},
)
def own_check(arguments: argparse.Namespace, work: Path) -> Iterable[Row]:
    """What the check against expected outputs adds to a start, and what measuring them adds to an export."""
    for name in filter(None, [*arguments.models, arguments.backbone]):
        backbone = export(name, work)
        for choice in (*ON_CPU, RunnerChoice(EXPORT)):
            rounds = [r for _ in range(arguments.rounds) if (r := _aside(_checked, backbone.folder, choice))]
            if not rounds:
                continue
            walls, processor = ([r[n] for r in rounds] for n in (0, 1))
            row = {"model": Path(name).name, "runner": choice.name, "precision": choice.precision, "load": load()}
            row |= {"seconds": statistics.median(walls), "slowest": max(walls)}
            row |= {"processor_s": statistics.median(processor)}
            for names, found in zip((("distance", "allowed"), ("own",)), rounds[0][2], strict=False):
                row |= dict(zip(names, (found.farthest, found.allowed), strict=False))
            yield row


def _aside(function: Any, *arguments: Any) -> Any:
    """Call a function in a process of its own."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def _checked(folder: Path, choice: RunnerChoice) -> tuple[Any, ...]:
    """Return wall and processor time of a check, and distances; nothing where the processor lacks the precision."""
    from scoremux_engine.runners.onnxruntime import OnnxRuntimeRunner
    from scoremux_export.measure import measure

    backbone = Backbone.open(folder)
    backbone.tokenizer  # noqa: B018  # each start opens it, and so does the proof of an export
    try:
        runner = OnnxRuntimeRunner(backbone) if choice.name == EXPORT else choice.make(backbone)
    except RunnerError:
        return ()
    if choice.name != EXPORT:
        runner.arithmetic  # noqa: B018  # each start has its name
    work = partial(measure, backbone, runner) if choice.name == EXPORT else partial(check, backbone, runner)
    clocks = time.perf_counter, time.process_time
    started = [clock() for clock in clocks]
    work()
    taken = [clock() - start for clock, start in zip(clocks, started, strict=True)]
    return *taken, [] if choice.name == EXPORT else distances(backbone, runner)


@case(
    columns=(
        "model; precision; change; products; unnoticed; smallest refused: least = least:.2g; "
        "median = median:.2g; largest = largest:.2g; the last as a cosine = cosine:.4f; of product = product; "
        "not refused at a cosine of 0.9 = beyond"
    ),
    keys="model precision change",
    options={
        **MODELS,
        "--precisions": {"nargs": "+", "default": PRECISIONS},
        "--changes": {"nargs": "+", "default": CHANGES, "choices": CHANGES},
        "--every": {"type": int, "default": 1, "help": "try each n-th product (default: %(default)s)"},
    },
)
def wrong_products(arguments: argparse.Namespace, work: Path) -> Iterable[Row]:
    """How wrong one product must be until a start is refused, beside the product itself: noise, or a larger scale."""
    from scoremux_engine.runners.openvino import OpenVinoRunner, read

    for name in filter(None, [*arguments.models, arguments.backbone]):
        backbone = export(name, work)
        graph = read(backbone)
        products = _products(graph)[:: arguments.every]
        for precision, change in itertools.product(arguments.precisions, arguments.changes):
            right = distances(backbone, OpenVinoRunner(backbone, precision, 1, graph=graph))
            sizes = {p: _smallest(backbone, graph, right, precision, change, p) for p in products}
            last = max(sizes, key=lambda p: sizes[p])
            beyond = None if change != NOISE else sum(_cosine(size) < 0.9 for size in sizes.values())
            found = [size for size in sizes.values() if size < math.inf]
            yield {
                **{"model": Path(name).name, "precision": precision, "change": change, "products": len(products)},
                **{"unnoticed": len(sizes) - len(found), "least": min(found), "median": statistics.median(found)},
                **{
                    "largest": max(found),
                    "product": last,
                    "cosine": None if change != NOISE else _cosine(max(found)),
                    "beyond": beyond,
                },
            }


def _cosine(noise: float) -> float:
    return float((1 + noise**2) ** -0.5)


def _products(graph: Any) -> list[str]:
    """Return the names of the products x @ W, W a constant."""
    from scoremux_engine.runners.packing import is_constant

    products = (n for n in graph.get_ordered_ops() if n.get_type_name() == "MatMul" and is_constant(n.input_value(1)))
    return [n.get_friendly_name() for n in products if len(n.input_value(1).get_shape()) == 2]


def _smallest(
    backbone: Backbone, graph: Any, right: list[Distance], precision: str, change: str, product: str
) -> float:
    """Return the change of a product whose distance is what is allowed; infinity where the largest is not so far.

    right: The distances without a change.
    """
    from openvino import opset13 as ops

    from scoremux_engine.runners.openvino import OpenVinoRunner

    def changed(size: float) -> list[Distance]:
        model = graph.clone()
        node = next(n for n in model.get_ordered_ops() if n.get_friendly_name() == product)
        weight = np.array(node.input_value(1).get_node().get_data())
        added = np.random.default_rng(0).normal(0, 1, weight.shape) if change == NOISE else weight
        added = added * (size * np.linalg.norm(weight) / np.linalg.norm(added))
        node.input(1).replace_source_output(ops.constant((weight + added).astype(np.float32)).output(0))
        return distances(backbone, OpenVinoRunner(backbone, precision, 1, graph=model))

    low, high, size = 0.0, math.inf, FIRST
    for _ in range(STEPS):
        found = changed(size)
        share = max(one.farthest / one.allowed for one in found)
        if abs(share - 1) < CLOSE:
            return size
        if share < 1 and size == LARGEST:
            return math.inf
        low, high = (size, high) if share < 1 else (low, size)
        guess = size * min(_factor(*pair) for pair in zip(found, right, strict=True))
        if not low < guess < high:
            guess = (low * high) ** 0.5 if low > 0 and high < math.inf else size * (3 if share < 1 else 1 / 3)
        size = min(LARGEST, guess)
    return min(high, LARGEST)


def _factor(found: Distance, right: Distance) -> float:
    """Return how many times as large a change is that gives what is allowed.

    Squares of distances add up, and grow with the square of the change.
    """
    own = right.farthest**2
    return float(((found.allowed**2 - own) / max(found.farthest**2 - own, own / 100, 1e-12)) ** 0.5)
