"""Recipes of training, compared by cross-validation on training splits; test rows are never read.

    python -m benchmarks.recipes --data SCIENTSBANK --recipe lr=0.004 epochs=10 --recipe ordinal=0.5

Each `--recipe` changes the defaults of `train.toml`: keys of [recipe], `sites`, `shared.KEY`, and `input`
(`response`, `question`, `reference`: what stands before the response as the first text of a pair). One of four folds is
held out (`--folds 4` trains all four), with equal texts on one side.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import case, data
from benchmarks.case import Case, Column
from benchmarks.data import Labelled
from benchmarks.quality import kappas
from benchmarks.rows import Row

FOLDS = 4
FIRST = {"response": None, "question": "{question}", "reference": "{reference}"}


def described(folder: Path, shown: str) -> dict[str, dict[str, Any]]:
    """Return fields of `task.json` by task. shown: a key of `FIRST`."""
    tasks = {}
    for task in json.loads((folder / "tasks.json").read_text(encoding="utf-8")):
        levels = task["levels"] if isinstance(task["levels"], list) else list(range(task["levels"]))
        fields = {"levels": levels, "question": task["question"], "reference": " ".join(task["reference_answers"])}
        if FIRST[shown]:
            fields["input"] = {"first": FIRST[shown], "second": "{response}"}
        tasks[task["task_id"]] = fields
    return tasks


def parsed(recipe: Iterable[str]) -> dict[str, Any]:
    """Return the content of a `train.toml` with changes such as `lr=0.004`, `shared.epochs=3`, `sites=query`."""
    plan: dict[str, Any] = {"recipe": {}, "shared": {}}
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

    plan = Plan.model_validate({**parsed(changes), "folds": FOLDS})
    shown = next((change.partition("=")[2] for change in changes if change.startswith("input=")), "response")
    columns = Columns(id="response_id", task="task_id", score="")
    read = read_data([folder / "train.jsonl"], described(folder, shown), columns)
    began_s, cpu_s = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as out:
        prepared = prepare(read, list(read.tasks), plan, str(data.minilm()), folds=range(folds))
        trained = train(prepared, Path(out), lambda _stage, _done, _of: None, checkpoint_s=1e9)
    rows, levels, losses = [], [], []
    for task in trained.tasks:
        for row, p in zip(task.prepared.rows, task.predicted, strict=True):
            if len(p):
                rows.append(Labelled(row.id, task.prepared.task.id, row.text, row.level))
                levels.append(int(np.argmax(p)))
                losses.append(-float(np.log(max(p[row.level], 1e-9))))
    found = kappas(rows, levels)
    del found["tasks"]
    took = {"seconds": time.perf_counter() - began_s, "cpu_seconds": time.process_time() - cpu_s}
    return {**found, "log_loss": float(np.mean(losses)), "rows": len(rows), **took}


def compare(arguments: argparse.Namespace, _work: Path) -> Iterator[Row]:
    """Yield a row for each recipe."""
    folder = case.data_folder(arguments.data)
    for changes in arguments.recipe or [[]]:
        found: Mapping[str, Any] = held_out(folder, changes, arguments.folds)
        yield {"data": arguments.data, "recipe": " ".join(changes) or "the defaults", "folds": arguments.folds, **found}


CASES = (
    Case(
        "recipes",
        "Recipes of `scoremux train`, cross-validated on training splits",
        (
            Column("data", "data"),
            Column("recipe", "recipe"),
            Column("folds", "folds"),
            Column("rows", "rows"),
            Column("mean QWK", "mean_qwk", "{:.3f}"),
            Column("pooled QWK", "pooled_qwk", "{:.3f}"),
            Column("exact", "exact", "{:.3f}"),
            Column("log loss", "log_loss", "{:.3f}"),
            Column("CPU s", "cpu_seconds", "{:.0f}"),
        ),
        ("data", "recipe", "folds"),
        compare,
    ),
)


def main() -> None:
    parser = case.parser(CASES, __doc__)
    parser.add_argument("--recipe", nargs="+", action="append", metavar="KEY=VALUE", help="one recipe; repeatable")
    parser.add_argument("--folds", type=int, default=1, help="how many of the four folds are trained")
    case.main(CASES, parser.parse_args())


if __name__ == "__main__":
    main()
