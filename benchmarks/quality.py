"""Agreement with humans: adapters on a shared backbone, whole models, and recipes of training.

    python -m benchmarks quality
    python -m benchmarks trained --data SCIENTSBANK --adapters FOLDER --full PREDICTIONS
    python -m benchmarks recipes --data SCIENTSBANK --recipe lr=0.004 epochs=10 --recipe ordinal=0.5

`trained` scores the test split with adapters that `scoremux train` wrote (by default the example adapters) and compares
them with the predictions of `python -m benchmarks full_finetuning`; intervals are of a paired bootstrap of rows within
tasks. `quality` is the same for the example adapters and the committed predictions, task by task.

`recipes` compares by cross-validation on the training split; test rows are never read. Each `--recipe` changes the
defaults of `train.toml`: keys of [recipe], `sites`, `seed`, `shared.KEY`, and `input` (`response`, `question`,
`reference`: what stands before the response as the first text of a pair). One of four folds is held out (`--folds 4`
trains all four), with equal texts on one side.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks import data
from benchmarks.case import QWK, case, data_folder
from benchmarks.data import Labelled, described
from benchmarks.rows import ROOT, Row
from scoremux_assess.agreement.statistics import qwk

Levels = npt.NDArray[np.int64]
FULL = ROOT / "examples" / "saf" / "full_finetuning_predictions.jsonl"
FOLDS = 4


def kappas(rows: Sequence[Labelled], levels: Sequence[int] | Levels) -> dict[str, Any]:
    """Return QWK by task, its mean over the tasks that have one, and QWK over all rows."""
    by_task = {}
    for task in sorted({row.task for row in rows}):
        pairs = [(row.level, int(level)) for row, level in zip(rows, levels, strict=True) if row.task == task]
        by_task[task] = qwk([truth for truth, _ in pairs], [level for _, level in pairs])
    defined = [value for value in by_task.values() if not math.isnan(value)]
    exact = float(np.mean([row.level == level for row, level in zip(rows, levels, strict=True)]))
    pooled = qwk([row.level for row in rows], list(map(int, levels)))
    return {"tasks": by_task, "mean_qwk": sum(defined) / len(defined), "pooled_qwk": pooled, "exact": exact}


def overall(rows: Sequence[Labelled], levels: Sequence[int] | Levels) -> dict[str, float]:
    """Return `kappas` without those of single tasks."""
    return {name: value for name, value in kappas(rows, levels).items() if name != "tasks"}


def compared(name: str, adapters: Path, full: Path | None, work: Path) -> Iterator[tuple[str, list[Labelled], Levels]]:
    """Yield the adapters' levels of a test split and, if there are any, those of whole models."""
    from scoremux_engine import Engine
    from scoremux_engine.packages.adapter_folders import Adapter
    from scoremux_engine.store.store import Store
    from scoremux_export.export_graph import export_backbone

    rows = data.read_rows(data_folder(name))
    folders = sorted(path for path in adapters.iterdir() if (path / "task.json").exists())
    backbone = export_backbone(str(data.minilm()), [Adapter.read(folder) for folder in folders], work / "repository")
    Store(work / "repository" / "store").add(folders, backbone)
    logits = Engine.open(work / "repository").logits([row.text for row in rows], [row.task for row in rows])
    yield f"one backbone, {len(folders)} adapters", rows, np.nanargmax(logits, axis=1)
    if full:
        lines = map(json.loads, full.read_text(encoding="utf-8").splitlines())
        level_of = {line["id"]: line["level"] for line in lines}
        yield f"{len(folders)} fully fine-tuned models", rows, np.array([level_of[row.id] for row in rows])


@case(
    columns=f" = models; {QWK}",
    keys="models",
)
def quality(_arguments: argparse.Namespace, work: Path) -> Iterator[Row]:
    """Agreement with humans on the 680 SAF test responses."""
    for models, rows, levels in compared("SAF", data.ADAPTERS, FULL, work):
        yield {"models": models, **kappas(rows, levels)}


@case(
    columns=(
        f"data;  = models; {QWK}; adapters minus whole models: mean QWK (95 % interval) = shown_mean; "
        "pooled QWK = shown_pooled"
    ),
    keys="data models",
    options={
        "--adapters": {"type": Path, "default": data.ADAPTERS, "help": "folder of adapter folders"},
        "--full": {"type": Path, "help": "predictions of full_finetuning"},
    },
)
def trained(arguments: argparse.Namespace, work: Path) -> Iterator[Row]:
    """Agreement with humans on test responses: adapters of `scoremux train` and whole models."""
    ours: Levels | None = None
    for models, rows, levels in compared(arguments.data, arguments.adapters, arguments.full, work):
        differences = {} if ours is None else _differences(rows, ours, levels)
        ours = levels if ours is None else ours
        yield {"data": arguments.data, "models": models, **overall(rows, levels), **differences}


def _differences(rows: Sequence[Labelled], ours: Levels, full: Levels, draws: int = 1000) -> dict[str, str]:
    """Return adapters minus whole models, with 95 % intervals."""
    draw, tasks = np.random.default_rng(12), np.array([row.task for row in rows])
    places = [np.flatnonzero(tasks == task) for task in sorted(set(tasks))]
    differences: dict[str, list[float]] = {"mean_qwk": [], "pooled_qwk": []}
    for turn in range(draws + 1):
        drawn = np.concatenate([place if turn == 0 else draw.choice(place, len(place)) for place in places])
        picked = [rows[i] for i in drawn]
        left, right = (overall(picked, levels[drawn]) for levels in (ours, full))
        for name, values in differences.items():
            values.append(left[name] - right[name])
    shown = {}
    for name, (value, *resampled) in differences.items():
        low, high = np.quantile(resampled, [0.025, 0.975])
        shown[f"shown_{name.removesuffix('_qwk')}"] = f"{value:+.3f} ({low:+.3f} – {high:+.3f})"
    return shown


def parsed(recipe: Iterable[str]) -> dict[str, Any]:
    """Return the content of a `train.toml` with changes such as `lr=0.004`, `shared.epochs=3`, `sites=query`."""
    plan: dict[str, Any] = {"recipe": {}, "shared": {}, "folds": FOLDS}
    for change in recipe:
        key, _, text = change.partition("=")
        value = json.loads(text) if text.replace(".", "").replace("-", "").replace("e", "").isdigit() else text
        if key.startswith("shared."):
            plan["shared"][key.removeprefix("shared.")] = value
        elif key in ("sites", "seed"):
            plan[key] = value
        elif key != "input":
            plan["recipe"][key] = value
    return plan


def held_out(folder: Path, changes: list[str], folds: int) -> dict[str, Any]:
    """Train without each of `folds` folds; return agreement on what was held out, and what training took."""
    from scoremux_train.data import Columns, read_data
    from scoremux_train.recipe import Plan
    from scoremux_train.run import prepare, train

    first = next((change.partition("=")[2] for change in changes if change.startswith("input=")), "response")
    columns = Columns(id="response_id", task="task_id", score="")
    labelled = read_data([folder / "train.jsonl"], described(folder, first), columns)
    began_s, cpu_s = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as out:
        plan = Plan.model_validate(parsed(changes))
        prepared = prepare(labelled, list(labelled.tasks), plan, str(data.minilm()), folds=range(folds))
        tables = train(prepared, Path(out), lambda _stage, _done, _of: None, checkpoint_s=1e9)
    took = {"seconds": time.perf_counter() - began_s, "cpu_seconds": time.process_time() - cpu_s}
    predicted = [
        (Labelled(row.id, task.prepared.task.id, row.text, row.level), p)
        for task in tables.tasks
        for row, p in zip(task.prepared.rows, task.predicted, strict=True)
        if len(p)
    ]
    rows, levels = [row for row, _ in predicted], [int(np.argmax(p)) for _, p in predicted]
    log_loss = float(np.mean([-float(np.log(max(p[row.level], 1e-9))) for row, p in predicted]))
    return {**overall(rows, levels), "log_loss": log_loss, "rows": len(rows), **took}


@case(
    columns=f"data; recipe; folds; rows; {QWK}; log loss = log_loss:.3f; CPU s = cpu_seconds:.0f",
    keys="data recipe folds",
    options={
        "--recipe": {"nargs": "+", "action": "append", "metavar": "KEY=VALUE", "help": "one recipe; repeatable"},
        "--folds": {"type": int, "default": 1, "help": "how many of the four folds are trained"},
    },
)
def recipes(arguments: argparse.Namespace, _work: Path) -> Iterator[Row]:
    """Recipes of `scoremux train`, cross-validated on training splits."""
    for changes in arguments.recipe or [[]]:
        agreement = held_out(data_folder(arguments.data), changes, arguments.folds)
        setting = {"data": arguments.data, "recipe": " ".join(changes) or "the defaults", "folds": arguments.folds}
        yield {**setting, **agreement}
