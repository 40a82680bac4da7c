"""Agreement with humans: adapters on a shared backbone, whole models, and recipes of training.

    python -m benchmarks quality
    python -m benchmarks trained --data SCIENTSBANK --adapters FOLDER --full PREDICTIONS
    python -m benchmarks recipes --data SCIENTSBANK --recipe lr=0.004 epochs=10 --recipe ordinal=0.5

`trained` scores the test split with adapters that `scoremux train` wrote (by default the example adapters) and compares
them with the predictions of `python -m benchmarks full_finetuning`; intervals are of a paired bootstrap of rows within
tasks. `quality` is the same for the example adapters and the committed predictions, task by task.

`recipes` compares by cross-validation on the training split; test rows are never read. Each `--recipe` changes the
defaults of `train.toml`: keys of [recipe], `sites`, `seed`, `shared.KEY`, and `input` (`response`, `question`,
`reference`, `both`: what stands before the response as the first text of a pair; `shared.input` is that of the shared
start). One of four folds is held out (`--folds 4` trains all four), with equal texts on one side. With `--labels 0 10`
every third task is new: it has so many labels (one of four folds is predicted), and the shared start is of the other
tasks. Differences are to the first recipe of the command; their intervals are by resampling of tasks.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
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
    plan: dict[str, Any] = {"recipe": {}, "shared": {}, "folds": FOLDS, "curve_folds": 0}
    for change in recipe:
        key, _, text = change.partition("=")
        value = json.loads(text) if text.replace(".", "").replace("-", "").replace("e", "").isdigit() else text
        if key == "shared.input":
            plan["shared"]["input"] = data.pair(text)
        elif key.startswith("shared."):
            plan["shared"][key.removeprefix("shared.")] = value
        elif key in ("sites", "seed"):
            plan[key] = value
        elif key != "input":
            plan["recipe"][key] = value
    return plan


@dataclass(frozen=True)
class Predicted:
    """Rows that an adapter did not see, with its probabilities of their levels."""

    rows: list[Labelled]
    probabilities: list[npt.NDArray[np.float32]]

    def figures(self) -> dict[str, Any]:
        """Return agreement with people."""
        levels = [int(np.argmax(p)) for p in self.probabilities]
        likely = [max(p[row.level], 1e-9) for row, p in zip(self.rows, self.probabilities, strict=True)]
        return {**overall(self.rows, levels), "log_loss": float(np.mean(-np.log(likely))), "rows": len(self.rows)}

    def confusions(self) -> npt.NDArray[np.float64]:
        """Return how many rows of each task have each pair of a human's level and the machine's, [T, L, L]."""
        tasks, levels = sorted({row.task for row in self.rows}), max(map(len, self.probabilities))
        counts = np.zeros((len(tasks), levels, levels))
        for row, p in zip(self.rows, self.probabilities, strict=True):
            counts[tasks.index(row.task), row.level, int(np.argmax(p))] += 1
        return counts


def minus(ours: Predicted, first: Predicted, draws: int = 2000) -> dict[str, str]:
    """Return differences of figures of the same rows, with 95 % intervals by resampling of tasks."""
    confusions = np.stack([ours.confusions(), first.confusions()])
    of_tasks = _kappas(confusions)
    defined = np.flatnonzero(~np.isnan(of_tasks).any(axis=0))
    draw, differences = np.random.default_rng(12), []
    for turn in range(draws + 1):
        tasks = np.arange(confusions.shape[1])
        tasks = tasks if turn == 0 else draw.choice(tasks, len(tasks))
        kept, pooled = tasks[np.isin(tasks, defined)], confusions[:, tasks].sum(axis=1)
        exact = pooled.trace(axis1=1, axis2=2) / pooled.sum(axis=(1, 2))
        means = of_tasks[:, kept].mean(axis=1) if len(kept) else np.zeros(2)
        differences.append([pair[0] - pair[1] for pair in (means, _kappas(pooled), exact)])
    low, high = np.quantile(differences[1:], [0.025, 0.975], axis=0)
    shown = [f"{x:+.3f} ({a:+.3f} – {b:+.3f})" for x, a, b in zip(differences[0], low, high, strict=True)]
    return dict(zip(("shown_mean", "shown_pooled", "shown_exact"), shown, strict=True))


def _kappas(confusions: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return QWK of counts [..., L, L]; NaN where it is undefined."""
    place = np.arange(confusions.shape[-1])
    weight = (place[:, None] - place) ** 2.0
    expected = confusions.sum(-1)[..., :, None] * confusions.sum(-2)[..., None, :]
    with np.errstate(invalid="ignore", divide="ignore"):
        return 1 - (weight * confusions).sum((-1, -2)) * confusions.sum((-1, -2)) / (weight * expected).sum((-1, -2))


class Recipes:
    """Trains recipes on parts of the training split of a corpus and predicts the rest; test rows are never read.

    Args:
        folder: The corpus.
        most: How many tasks are used at most.
    """

    def __init__(self, folder: Path, most: int) -> None:
        names = [task["task_id"] for task in json.loads((folder / "tasks.json").read_text(encoding="utf-8"))]
        self._folder, self._names = folder, sorted(names)[:most]

    def folds(self, changes: list[str], folds: int) -> Predicted:
        """Train all tasks without each of some folds of `FOLDS`, and predict those."""
        from scoremux_train.run import train

        prepared = self._prepare(changes, self._names)
        predicted = Predicted([], [])
        for fold in range(folds):
            part = replace(prepared, tasks=[_labelled_part(task, fold) for task in prepared.tasks])
            with tempfile.TemporaryDirectory() as out:
                trained = train(part, Path(out), _say_nothing, checkpoint_s=1e9)
            _predict(prepared, [task.table for task in trained.tasks], fold, predicted)
        return predicted

    def few_labels(self, changes: list[str], labels: Sequence[int]) -> Iterator[tuple[int, Predicted]]:
        """Yield what every third task is scored as after so many labels, from a start trained on the other tasks."""
        from scoremux_train.run import train
        from scoremux_train.training.adapter_files import write_start

        new, plan = self._names[::3], parsed(changes)
        with tempfile.TemporaryDirectory() as work:
            folder = None
            if plan["shared"].get("epochs"):
                others = [name for name in self._names if name not in new]
                # Only the start is wanted; one epoch of the tasks is the least there is.
                prepared = self._prepare([*changes, "epochs=1"], others)
                trained = train(prepared, Path(work), _say_nothing, checkpoint_s=1e9)
                folder = Path(work) / "start"
                write_start(folder, prepared.layout, trained.start, prepared.plan)
            for count in labels:
                if not count and folder is None:
                    continue
                shown = [f"input={_value(changes, 'shared.input')}"] if not count else []
                prepared = self._prepare([*shown, *changes], new, folder)
                predicted = Predicted([], [])
                if prepared.start is not None and not count:
                    tables = [prepared.layout.at_scale(prepared.start.table, t.task.levels) for t in prepared.tasks]
                else:
                    tasks = [_labelled_part(task, 0, count) for task in prepared.tasks]
                    trained = train(replace(prepared, tasks=tasks), Path(work) / str(count), _say_nothing, 1e9)
                    tables = [task.table for task in trained.tasks]
                _predict(prepared, tables, 0, predicted)
                yield count, predicted

    def _prepare(self, changes: list[str], names: Sequence[str], start: Path | None = None) -> Any:
        from scoremux_train.data import Columns, read_data
        from scoremux_train.recipe import Plan
        from scoremux_train.training.preparation import WHOLE, prepare

        columns = Columns(id="response_id", task="task_id", score="")
        tasks = described(self._folder, _value(changes, "input"))
        labelled = read_data([self._folder / "train.jsonl"], tasks, columns)
        plan = Plan.model_validate(parsed(changes))
        return prepare(labelled, names, plan, str(data.minilm()), folds=[WHOLE], start=start)


def _say_nothing(_stage: str, _done: int, _of: int) -> None:
    """Takes the progress of training."""


def _value(changes: Sequence[str], key: str) -> str:
    """Return what a recipe says of an input, `response` where it says nothing."""
    return next((change.partition("=")[2] for change in changes if change.startswith(f"{key}=")), "response")


def _labelled_part(task: Any, fold: int, most: int | None = None) -> Any:
    """Return a task with the rows that are not in a fold, and of those at most so many, in an order by chance."""
    places = sorted(task.without(fold), key=lambda place: task.examples[place].key)[:most]
    columns = ("rows", "examples", "start_examples", "groups", "fold_of")
    return replace(task, **{name: [getattr(task, name)[place] for place in sorted(places)] for name in columns})


def _predict(prepared: Any, tables: Sequence[Any], fold: int, predicted: Predicted) -> None:
    """Add the rows of a fold with what `tables` say of them."""
    import torch

    from scoremux_train.training.batches import StepRow, TrainingSet

    of_key, rows = {}, []
    for place, task in enumerate(prepared.tasks):
        training_set = TrainingSet(task.task.id, task.levels, task.recipe, ())
        for row, example, held_out_in in zip(task.rows, task.examples, task.fold_of, strict=True):
            if held_out_in == fold:
                of_key[example.key] = Labelled(row.id, task.task.id, row.text, row.level)
                rows.append(StepRow(place, training_set, example))
    for step_row, p in prepared.trainer.predict(rows, torch.stack(list(tables))):
        predicted.rows.append(of_key[step_row.example.key])
        predicted.probabilities.append(p)


@case(
    columns=(
        f"data; recipe; folds; tasks; labels; rows; {QWK}; log loss = log_loss:.3f; minus the first recipe: mean QWK = "
        "shown_mean; pooled QWK = shown_pooled; exact = shown_exact; CPU s = cpu_seconds:.0f"
    ),
    keys="data recipe folds tasks labels",
    options={
        "--recipe": {"nargs": "+", "action": "append", "metavar": "KEY=VALUE", "help": "one recipe; repeatable"},
        "--folds": {"type": int, "default": 1, "help": "how many of the four folds are trained"},
        "--tasks": {"type": int, "default": 27, "help": "at most so many (default: %(default)s)"},
        "--labels": {"type": int, "nargs": "+", "help": "labels of new tasks, every third: 0 10 20 50"},
        "--predictions": {"type": Path, "help": "file to write the probabilities to, as JSON lines"},
    },
)
def recipes(arguments: argparse.Namespace, _work: Path) -> Iterator[Row]:
    """Recipes of `scoremux train`, cross-validated on training splits."""
    measured = Recipes(data_folder(arguments.data), arguments.tasks)
    first: dict[int | None, Predicted] = {}
    for changes in arguments.recipe or [[]]:
        setting = {"data": arguments.data, "recipe": " ".join(changes) or "the defaults", "tasks": arguments.tasks}
        began_s, cpu_s = time.perf_counter(), time.process_time()
        runs: Iterable[tuple[int | None, Predicted]] = (
            measured.few_labels(changes, arguments.labels)
            if arguments.labels
            else ((None, measured.folds(changes, folds)) for folds in [arguments.folds])
        )
        for labels, predicted in runs:
            took = {"seconds": time.perf_counter() - began_s, "cpu_seconds": time.process_time() - cpu_s}
            differences = minus(predicted, first[labels]) if labels in first else {}
            first.setdefault(labels, predicted)
            folds = {"labels": labels} if arguments.labels else {"folds": arguments.folds}
            if arguments.predictions:
                _keep(arguments.predictions, {**setting, **folds}, predicted)
            yield {**setting, **folds, **predicted.figures(), **differences, **took}


def _keep(path: Path, setting: dict[str, Any], predicted: Predicted) -> None:
    with path.open("a", encoding="utf-8") as file:
        for row, p in zip(predicted.rows, predicted.probabilities, strict=True):
            line = {**setting, "id": row.id, "task": row.task, "level": row.level, "probabilities": p.tolist()}
            file.write(json.dumps(line) + "\n")
