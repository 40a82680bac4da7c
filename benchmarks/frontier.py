"""Backbones, sites and ranks: agreement, serving speed, size of a package and time of training.

    python -m benchmarks frontier --data SCIENTSBANK --tasks 8

A screening: some tasks, one of four folds of the training split, one seed. Adapters are trained without the fold, which
is then predicted; they are exported and published, and score the same responses in turn with those on query and value.
Speed is by processor time. With `--work FOLDER` what was trained is kept, and a later command trains the rest.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import astuple
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import data
from benchmarks.case import QWK, case, data_folder
from benchmarks.data import Labelled
from benchmarks.quality import overall
from benchmarks.rows import Row
from benchmarks.screening import Predicted, Recipes, minus
from benchmarks.timing import interleave, times_as_fast

QUERY_VALUE = "query and value"
SITES = {
    QUERY_VALUE: "query,value",
    "all": "all-linear",
    "attention": r"re:.*attention.*(query|key|value|dense)",
    "feed-forward": r"re:.*layer\.\d+\.(intermediate|output)\.dense",
    "upper half": r"re:.*layer\.[345]\..*(query|key|value|dense)",
    "upper half's feed-forward": r"re:.*layer\.[345]\.(intermediate|output)\.dense",
}
"""Of MiniLM's six layers."""
MINILM = "all-MiniLM-L6-v2"
PRECISIONS = ("float32", "int8")


@case(
    columns=(
        f"data; backbone; sites; rank; tasks; folds; rows; {QWK}; mean QWK − query and value = shown_mean; "
        "× its rows/s in int8 = x_int8:.2f; in float32 = x_float32:.2f; "
        "start in int8, s = start_s_int8:.1f; package, kB = package_bytes/1e3:,.0f; training, CPU s = cpu_seconds:.0f"
    ),
    keys="data backbone sites rank tasks folds of",
    options={
        "--tasks": {"type": int, "default": 8, "help": "at most so many (default: %(default)s)"},
        "--folds": {"type": int, "default": 1, "help": "how many of the four folds are trained"},
        "--sites": {"nargs": "+", "choices": list(SITES), "default": list(SITES)[1:]},
        "--ranks": {"type": int, "nargs": "+", "default": [4, 8, 16]},
        "--backbone": {"default": MINILM, "help": "a model's folder, for all rows but the first (default: MiniLM)"},
        "--price": {"action": "store_true", "help": "train one epoch and leave agreement and time of training out"},
    },
    defaults={"rounds": 5, "rows": 256},
)
def frontier(arguments: argparse.Namespace, work: Path) -> Iterator[Row]:
    """Where adapters are and their rank: agreement by cross-validation, and what it costs in serving (a screening)."""
    measured = Recipes(data_folder(arguments.data), arguments.tasks, work)
    chosen = ((arguments.backbone, sites, rank) for sites in arguments.sites for rank in arguments.ranks)
    first: tuple[Predicted, Mapping[str, Any]] | None = None
    for name, sites, rank in [(MINILM, QUERY_VALUE, 8), *chosen]:
        backbone = str(data.minilm()) if name == MINILM else name
        setting = (arguments.data, Path(name).name, sites, rank, arguments.tasks, arguments.folds, arguments.price)
        folder = work / re.sub(r"\W+", "-", " ".join(map(str, setting)))
        changes = [
            f"backbone={backbone}",
            f"sites={SITES[sites]}",
            f"rank={rank}",
            f"alpha={2 * rank}",
            *(["epochs=1"] if arguments.price else []),
        ]
        predicted, took_s = _trained(measured, changes, arguments.folds, (backbone, SITES[sites]), folder)
        started = {precision: _engine(folder / "repository", precision) for precision in PRECISIONS}
        engines = {precision: engine for precision, (engine, _) in started.items()}
        first = first or (predicted, engines)
        rows = predicted.rows[: arguments.rows]
        works = {f"{name} {p}": partial(e.logits, rows) for name, es in (("this", engines), ("first", first[1]))
                 for p, e in es.items()}  # fmt: skip
        timings = interleave(works, arguments.rounds, clock=time.process_time)
        packages = [path.stat().st_size for path in (folder / "adapters").glob("*/adapter_model.safetensors")]
        agreement = {**overall(predicted.rows, predicted.levels), **minus(predicted, first[0]), "cpu_seconds": took_s}
        yield {
            **{"data": arguments.data, "backbone": Path(name).name, "sites": sites, "rank": rank},
            **{
                "tasks": arguments.tasks,
                "folds": arguments.folds,
                "rows": len(predicted.rows),
                "of": "price" if arguments.price else "agreement",
            },
            **({} if arguments.price else agreement),
            **{f"x_{p}": times_as_fast(timings[f"this {p}"], timings[f"first {p}"]) for p in PRECISIONS},
            **{f"rows_per_cpu_s_{p}": len(rows) / timings[f"this {p}"].median_s for p in PRECISIONS},
            **{f"start_s_{p}": seconds for p, (_, seconds) in started.items()},
            "package_bytes": sum(packages) / len(packages),
        }


def _trained(
    measured: Recipes, changes: list[str], folds: int, exported: tuple[str, str], folder: Path
) -> tuple[Predicted, float]:
    """Train and publish unless `folder` has that; return what was predicted, and the CPU seconds of training."""
    kept = folder / "predicted.json"
    if not kept.exists():
        began_s = time.process_time()
        trained: list[tuple[Any, Any]] = []
        predicted = measured.folds(changes, folds, lambda *pair: trained.append(pair))
        took_s = time.process_time() - began_s
        _publish(*exported, folder, *trained[-1])
        rows = [[*astuple(row), p.tolist()] for row, p in zip(predicted.rows, predicted.probabilities, strict=True)]
        kept.write_text(json.dumps({"seconds": took_s, "rows": rows}), encoding="utf-8")
    content = json.loads(kept.read_text(encoding="utf-8"))
    probabilities = [np.array(p, np.float32) for *_, p in content["rows"]]
    return Predicted([Labelled(*row) for *row, _ in content["rows"]], probabilities), content["seconds"]


def _publish(backbone: str, sites: str, folder: Path, prepared: Any, trained: Any) -> None:
    """Write what was trained as adapters, export the backbone with these sites alone, and publish."""
    from benchmarks.stores import export_once
    from scoremux_engine.model.backbone import Backbone
    from scoremux_engine.store.store import Store
    from scoremux_train.training.adapter_files import write_adapter

    adapters, repository = folder / "adapters", folder / "repository"
    for task in trained:
        described = task.prepared.task
        texts = {"task.json": json.dumps(described.model_dump(mode="json", exclude_none=True))}
        recipe, levels = task.prepared.recipe, task.prepared.levels
        write_adapter(adapters / described.id, prepared.layout, task.table, levels, prepared.plan, recipe, texts)
    export_once(backbone, sites, repository)
    Store(repository / "store").add(sorted(adapters.iterdir()), Backbone.open(repository / "backbone" / "1"))


def _engine(repository: Path, precision: str) -> tuple[Any, float]:
    """Return an engine and the seconds that it took to start."""
    from benchmarks.peers.scoremux import ScoremuxEngine

    began_s = time.monotonic()
    engine = ScoremuxEngine(repository=str(repository), profile="cpu", settings=[f"precision={precision}"])
    return engine, time.monotonic() - began_s
