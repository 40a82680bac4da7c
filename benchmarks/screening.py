"""Recipes of training, cross-validated on training splits: with all labels, and for new tasks with few."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks import data
from benchmarks.case import data_folder
from benchmarks.data import Labelled, described

FOLDS = 4
THIRDS = 3
"""Into so many parts tasks are divided, of which one is new."""
EVERY_LABEL = 10**6
_CHECKPOINT_S = 20.0


def parsed(recipe: Iterable[str]) -> dict[str, Any]:
    """Return the content of a `train.toml` with changes such as `lr=0.004`, `sites=query`."""
    plan: dict[str, Any] = {"recipe": {}, "folds": FOLDS}
    for change in recipe:
        key, _, text = change.partition("=")
        value = json.loads(text) if text.replace(".", "").replace("-", "").replace("e", "").isdigit() else text
        if key in ("sites", "seed"):
            plan[key] = value
        elif key not in ("input", "backbone", "taught", "draw"):
            plan["recipe"][key] = value
    return plan


@dataclass(frozen=True)
class Predicted:
    """Rows that an adapter did not see, with its probabilities of their levels."""

    rows: list[Labelled]
    probabilities: list[npt.NDArray[np.float32]]

    @property
    def levels(self) -> list[int]:
        return [int(np.argmax(p)) for p in self.probabilities]

    @property
    def log_loss(self) -> float:
        likely = [max(p[row.level], 1e-9) for row, p in zip(self.rows, self.probabilities, strict=True)]
        return float(np.mean(-np.log(likely)))

    def add_to(self, path: Path, setting: dict[str, Any]) -> None:
        """Add the rows to a file of JSON lines, which `read_predicted` reads."""
        with path.open("a", encoding="utf-8") as file:
            for row, p in zip(self.rows, self.probabilities, strict=True):
                line = {"id": row.id, "task": row.task, "level": row.level, "probabilities": p.tolist()}
                file.write(json.dumps({**line, "of": setting}) + "\n")

    def confusions(self) -> npt.NDArray[np.float64]:
        """Return how many rows of each task have each pair of a human's level and the machine's, [T, L, L]."""
        tasks, levels = sorted({row.task for row in self.rows}), max(map(len, self.probabilities))
        counts = np.zeros((len(tasks), levels, levels))
        for row, p in zip(self.rows, self.probabilities, strict=True):
            counts[tasks.index(row.task), row.level, int(np.argmax(p))] += 1
        return counts


def read_predicted(path: Path, setting: dict[str, Any]) -> dict[tuple[str, int | None], Predicted]:
    """Return what a file has of a setting, by recipe and number of labels; nothing without a file."""
    kept: dict[tuple[str, int | None], Predicted] = {}
    for line in map(json.loads, path.read_text(encoding="utf-8").splitlines() if path.exists() else ()):
        if all(line["of"].get(name) == value for name, value in setting.items()):
            predicted = kept.setdefault((line["of"]["recipe"], line["of"].get("labels")), Predicted([], []))
            predicted.rows.append(Labelled(line["id"], line["task"], "", line["level"]))
            predicted.probabilities.append(np.array(line["probabilities"], np.float32))
    return kept


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
        return np.asarray(
            1 - (weight * confusions).sum((-1, -2)) * confusions.sum((-1, -2)) / (weight * expected).sum((-1, -2))
        )


class Recipes:
    """Trains recipes on parts of the training split of a corpus and predicts the rest; test rows are never read.

    Args:
        folder: The corpus.
        most: How many tasks are used at most.
        work: Keeps where training was when it was stopped.
        only: Ids of the tasks that are used; empty: all.
    """

    def __init__(self, folder: Path, most: int, work: Path, only: Sequence[str] = ()) -> None:
        names = [task["task_id"] for task in json.loads((folder / "tasks.json").read_text(encoding="utf-8"))]
        if unknown := set(only) - set(names):
            raise ValueError(f"{folder} has no task {min(unknown)}")
        self._folder, self.names, self._work = folder, sorted(only or names)[:most], work
        self.goes_on = False
        """Whether a run that was stopped, or had ended, went on: its times say nothing."""

    def folds(self, changes: list[str], folds: int, keep: Callable[[Any, Any], None] | None = None) -> Predicted:
        """Train all tasks without each of some folds of `FOLDS`, and predict those.

        Args:
            changes: Of the recipe.
            folds: How many of `FOLDS`.
            keep: Gets what was prepared and what was trained, fold after fold.
        """
        from scoremux_train.run import train

        prepared = self.prepare(changes, self.names)
        predicted = Predicted([], [])
        for fold in range(folds):
            part = replace(prepared, tasks=[_labelled_part(task, fold) for task in prepared.tasks])
            trained = train(part, self._kept(changes, self.names, fold), _say_nothing, _CHECKPOINT_S)
            predict(prepared, [task.table for task in trained], fold, predicted)
            if keep is not None:
                keep(prepared, trained)
        return predicted

    def few_labels(
        self, changes: list[str], labels: Sequence[int], thirds: int, keep: Callable[[Any, Any], None] | None = None
    ) -> Iterator[tuple[int, Predicted]]:
        """Yield what new tasks are scored as after so many labels.

        Args:
            changes: Of the recipe.
            labels: How many each new task has.
            thirds: How many thirds of the tasks are new, one after the other.
            keep: Gets what was prepared and what was trained, third after third.
        """
        for count in labels:
            predicted = Predicted([], [])
            for third in range(thirds):
                self._few_labels(changes, count, self.names[third::THIRDS], predicted, keep)
            yield count, predicted

    def _few_labels(
        self,
        changes: list[str],
        count: int,
        new: Sequence[str],
        predicted: Predicted,
        keep: Callable[[Any, Any], None] | None,
    ) -> None:
        from scoremux_train.run import train

        prepared = self.prepare(changes, new)
        part = replace(prepared, tasks=[_labelled_part(task, 0, count) for task in prepared.tasks])
        if _value(changes, "taught", ""):
            part = self._taught(changes, prepared, part)
        if draw := _value(changes, "draw", ""):
            part = _drawn(part, int(draw))
        trained = train(part, self._kept(changes, new, count), _say_nothing, _CHECKPOINT_S)
        predict(prepared, [task.table for task in trained], 0, predicted)
        if keep is not None:
            keep(prepared, trained)

    def _kept(self, *of: object) -> Path:
        from scoremux_evidence.sampling import derived_key

        folder = self._work / f"{derived_key(self._folder.name, *of):016x}"
        self.goes_on |= folder.exists()
        return folder

    def _taught(self, changes: list[str], whole: Any, part: Any) -> Any:
        """Return the tasks of `part` taught by a comparison with their references, on their other training rows.

        The comparison is learned on tasks that are not in `part`, or on the corpus that the recipe names. whole: the
        tasks with all their rows.
        """
        from scoremux_train.data import Data
        from scoremux_train.reference_comparison import ReferenceComparison

        known = self.read(changes)
        new = {task.task.id: task for task in part.tasks}
        head = _value(changes, "taught")
        others = [(known.tasks[name], known.training[name].rows) for name in self.names if name not in new]
        comparison = ReferenceComparison.learn(others) if head == "1" else learned_on(data_folder(head))
        unlabelled = {}
        for task in whole.tasks:
            read = {example.key for example in new[task.task.id].examples}
            pairs = enumerate(zip(task.examples, task.fold_of, strict=True))
            rest = [place for place, (example, fold) in pairs if fold != 0 and example.key not in read]
            unlabelled[task.task.id] = task.rows.where(rest)
        few = Data(known.tasks, {name: task.rows for name, task in new.items()}, unlabelled=unlabelled)
        return self.prepare(changes, [], few, dict.fromkeys(new, comparison))

    def read(self, changes: Sequence[str]) -> Any:
        """Return the training rows of the corpus, as `scoremux train` reads them."""
        from scoremux_evidence.rows.label_columns import LabelColumns
        from scoremux_train.data import read_data

        columns = LabelColumns(id="response_id", task="task_id", score="")
        tasks = described(self._folder, _value(changes, "input"))
        return read_data([self._folder / "train.jsonl"], tasks, columns)

    def prepare(
        self, changes: Sequence[str], names: Sequence[str], labelled: Any = None, comparisons: Any = None
    ) -> Any:
        from scoremux_train.recipe import Plan
        from scoremux_train.training.preparation import WHOLE, prepare

        plan = Plan.model_validate(parsed(changes))
        backbone = _value(changes, "backbone", str(data.minilm()))
        prepared = prepare(labelled or self.read(changes), names, plan, backbone, comparisons=comparisons)
        return replace(prepared, folds=[WHOLE])


def learned_on(folder: Path) -> Any:
    """Return the comparison with references that the labels of all tasks of a corpus give."""
    from scoremux_train.reference_comparison import ReferenceComparison

    known = Recipes(folder, 10**6, Path()).read([])
    return ReferenceComparison.learn([(task, known.training[name].rows) for name, task in sorted(known.tasks.items())])


def _drawn(prepared: Any, draw: int) -> Any:
    """Return what was prepared with other orders, dropout and A; heads start alike, or their mean would say nothing."""
    from scoremux_engine.model.backbone import head_inputs

    def fresh(rank: int, levels: int, seed: int, traits: Sequence[int]) -> Any:
        row, first = prepared.fresh(rank, levels, seed, traits), prepared.fresh(rank, levels, 0, traits)
        own, alike = prepared.layout.views(row), prepared.layout.views(first)
        for linear in prepared.layout.head:
            for name in head_inputs(linear.name):
                own[name].copy_(alike[name])
        return row

    return replace(prepared, plan=prepared.plan.model_copy(update={"seed": draw}), fresh=fresh)


def _say_nothing(_done: int, _of: int) -> None:
    """Takes the progress of training."""


def _value(changes: Sequence[str], key: str, default: str = "response") -> str:
    """Return what a recipe says of an input or of the backbone, `default` where it says nothing."""
    return next((change.partition("=")[2] for change in changes if change.startswith(f"{key}=")), default)


def _labelled_part(task: Any, fold: int, most: int | None = None) -> Any:
    """Return a task with the rows that are not in a fold, and of those at most so many, in an order by chance."""
    places = [place for place, held_out_in in enumerate(task.fold_of) if held_out_in != fold]
    places = sorted(sorted(places, key=lambda place: task.examples[place].key)[:most])
    columns = ("examples", "groups", "fold_of")
    parts = {name: [getattr(task, name)[place] for place in places] for name in columns}
    return replace(task, rows=task.rows.where(places), **parts)


def predict(prepared: Any, tables: Sequence[Any], fold: int, predicted: Predicted) -> None:
    """Add the rows of a fold with what `tables` say of them."""
    import torch

    from scoremux_train.training.batches import StepRow, TrainingSet

    of_key, rows = {}, []
    for place, task in enumerate(prepared.tasks):
        training_set = TrainingSet(task.task.id, task.levels, task.recipe, ())
        columns = task.rows.id, task.rows.text, task.human, task.examples, task.fold_of
        for name, text, level, example, held_out_in in zip(*columns, strict=True):
            if held_out_in == fold:
                of_key[example.key] = Labelled(str(name), task.task.id, text, level)
                rows.append(StepRow(place, training_set, example))
    for step_row, p in prepared.trainer.predict(rows, torch.stack(list(tables))):
        predicted.rows.append(of_key[step_row.example.key])
        predicted.probabilities.append(p)
