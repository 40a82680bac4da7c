"""Tasks with few labels or none: what the comparison with references gives without training, and what deceives it.

    python -m benchmarks reference --data SAF
    python -m benchmarks tricks --data SAF --labels 8 32 --work FOLDER

Rows of `--folds` of four folds get levels from so many labels outside of the fold. The labels are drawn at random (8
times), or chosen to cover: one after the other, the answer that leaves the least variance of all answers under the
kernel. The head is learned on the tasks of the other two thirds. Differences are cover minus random, with intervals by
resampling of tasks. With `--head SAF` the head is learned on all tasks of that corpus instead: on SCIENTSBANK this is
the start that ships with scoremux.

`tricks` gives texts that nobody should get points for to the comparison (the labels drawn at random, once), and to the
plain and taught adapters of `recipes`: with the `--work` of that command nothing is trained. Beside them are the
answers of the held-out fold that people gave the highest and the lowest level.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.case import QWK, case, data_folder
from benchmarks.data import Labelled
from benchmarks.peers.batches import TokenIds
from benchmarks.quality import overall
from benchmarks.rows import Row
from benchmarks.screening import EVERY_LABEL, FOLDS, THIRDS, Predicted, Recipes, learned_on, minus

DRAWS = 8
_PENALTY = 1.0
"""Added to the variance of an answer when the next one to label is chosen."""

Floats = npt.NDArray[np.float64]
Choose = Callable[["_Task", Sequence[int], int], list[int]]


class _Task:
    """The training rows of a task with what compares them with its reference."""

    def __init__(self, task: Any, training: Any, comparison: Any) -> None:
        from scoremux_train.recipe import Plan
        from scoremux_train.training.preparation import assign

        self.task, self.rows = task, training.rows
        self.levels: list[int] = training.rows.level.astype(int).tolist()
        self.fold_of = assign(self.levels, training.groups, FOLDS, Plan().seed, task.id, "folds")
        self.comparison = comparison
        self.compared = comparison.compare(task, [*training.rows.text])

    def outside(self, fold: int) -> list[int]:
        """Return the places of the rows that are not in a fold."""
        return [place for place, own in enumerate(self.fold_of) if own != fold]

    def predict(self, fold: int, chosen: Sequence[int], predicted: Predicted) -> None:
        """Add the rows of a fold, compared and corrected by the labels of the chosen rows."""
        shares = self.compared.corrected(chosen, [self.levels[place] for place in chosen]) if chosen else None
        for place, own in enumerate(self.fold_of):
            if own == fold:
                row = Labelled(str(self.rows.id[place]), self.task.id, self.rows.text[place], self.levels[place])
                predicted.rows.append(row)
                predicted.probabilities.append((self.compared.prior if shares is None else shares)[place])


def _tasks(folder: Path, head: str | None = None) -> list[_Task]:
    """Return the tasks of a corpus, each with a comparison learned on the other two thirds, or on the corpus `head`."""
    from scoremux_train.reference_comparison import ReferenceComparison

    known = Recipes(folder, 10**6, Path()).read([])
    names, tasks = sorted(known.tasks), []
    if head:
        comparison = learned_on(data_folder(head))
        return [_Task(known.tasks[name], known.training[name], comparison) for name in names]
    for third in range(THIRDS):
        new = names[third::THIRDS]
        others = [(known.tasks[name], known.training[name].rows) for name in names if name not in new]
        comparison = ReferenceComparison.learn(others)
        tasks += [_Task(known.tasks[name], known.training[name], comparison) for name in new]
    return tasks


def at_random(draw: int) -> Choose:
    """Return a choice of rows to label by chance."""

    def choose(task: _Task, places: Sequence[int], count: int) -> list[int]:
        return random.Random(f"{task.task.id} {draw}").sample(places, min(count, len(places)))

    return choose


def to_cover(task: _Task, places: Sequence[int], count: int) -> list[int]:
    """Choose rows to label: each leaves the least variance of all rows, where similar rows have similar levels."""
    left = task.compared.kernel(places)[places]
    chosen: list[int] = []
    for _ in range(min(count, len(places))):
        gain = (left**2).sum(1) / (left.diagonal() + _PENALTY)
        gain[chosen] = -1.0
        best = int(gain.argmax())
        chosen.append(best)
        left = left - np.outer(left[:, best], left[best]) / (left[best, best] + _PENALTY)
    return [places[place] for place in chosen]


@case(
    columns=(
        f"data; head; labels; chosen; folds; rows; {QWK}; log loss = log_loss:.3f; "
        "cover minus random: mean QWK = shown_mean; pooled QWK = shown_pooled; exact = shown_exact"
    ),
    keys="data head labels chosen folds",
    options={
        "--labels": {"type": int, "nargs": "+", "default": [0, 8, 16, 32], "help": "labels of a task"},
        "--folds": {"type": int, "default": FOLDS, "help": "how many of four folds are predicted"},
        "--head": {"help": "the corpus on whose tasks the head is learned (default: other tasks of --data)"},
    },
)
def reference(arguments: argparse.Namespace, _work: Path) -> Iterator[Row]:
    """What a comparison with references gives answers, without training: labels drawn at random, or chosen to cover."""
    tasks = _tasks(data_folder(arguments.data), arguments.head)
    for labels in arguments.labels:
        setting = {"data": arguments.data, "head": arguments.head, "labels": labels, "folds": arguments.folds}
        drawn = _predicted(tasks, arguments.folds, labels, [at_random(draw) for draw in range(DRAWS if labels else 1)])
        yield {**setting, "chosen": "random", **_figures(drawn)}
        if labels:
            covered = _predicted(tasks, arguments.folds, labels, [to_cover])
            again = Predicted(covered.rows * DRAWS, covered.probabilities * DRAWS)
            yield {**setting, "chosen": "cover", **_figures(covered), **minus(again, drawn)}


def _predicted(tasks: Sequence[_Task], folds: int, labels: int, choices: Sequence[Choose]) -> Predicted:
    predicted = Predicted([], [])
    for choose in choices:
        for task in tasks:
            for fold in range(folds):
                task.predict(fold, choose(task, task.outside(fold), labels), predicted)
    return predicted


def _figures(predicted: Predicted) -> dict[str, Any]:
    return {**overall(predicted.rows, predicted.levels), "log_loss": predicted.log_loss, "rows": len(predicted.rows)}


TRICKS = ("highest level", "lowest level", "reference shuffled", "key words", "question", "lowest level + key words")


def _tricks(task: _Task) -> list[tuple[str, str]]:
    """Return texts of a task by kind. Key words are the words of the reference that are not in the question."""
    reference, question = task.task.reference.split(), task.task.question
    shuffled = random.Random(task.task.id).sample(reference, len(reference))
    in_question = {*question.casefold().split()}
    keys = " ".join(word for word in shuffled if word.casefold() not in in_question)
    held_out = [place for place, fold in enumerate(task.fold_of) if fold == 0]
    best, worst = (
        [task.rows.text[place] for place in held_out if task.levels[place] == level]
        for level in (len(task.task.levels) - 1, 0)
    )
    ends = [f"{text} {keys}" for text in worst]
    of_kind = dict(zip(TRICKS, (best, worst, [" ".join(shuffled)], [keys], [question], ends), strict=True))
    return [(kind, text) for kind, texts in of_kind.items() for text in texts if text]


@case(
    columns=(
        "data; scored by = by; labels; text; texts; "
        "mean share of the points = points:.2f; at the highest level = top:.2f"
    ),
    keys="data by labels text",
    options={
        "--labels": {"type": int, "nargs": "+", "default": [8, 32], "help": "labels of a task, as in recipes"},
        "--every-label": {"action": "store_true", "help": "the plain adapter with all labels of three folds, too"},
    },
)
def tricks(arguments: argparse.Namespace, work: Path) -> Iterator[Row]:
    """What texts get that deserve no points, beside people's answers: the mean over tasks."""
    folder = data_folder(arguments.data)
    tasks = {task.task.id: task for task in _tasks(folder)}
    texts = {name: _tricks(task) for name, task in tasks.items()}
    for labels in (0, *arguments.labels):
        scored = {}
        for name, task in tasks.items():
            chosen = at_random(0)(task, task.outside(0), labels)
            compared = task.comparison.compare(task.task, [*task.rows.text, *(text for _, text in texts[name])])
            levels = [task.levels[place] for place in chosen]
            likely = compared.corrected(chosen, levels) if chosen else compared.prior
            scored[name] = likely[len(task.levels) :]
        yield from _of_kinds(arguments.data, "comparison", labels, texts, scored)
    settings = [
        (by, recipe, labels)
        for by, recipe in (("plain adapter", "seed=20241221"), ("taught adapter", "taught=1"))
        for labels in arguments.labels
    ]
    if arguments.every_label:
        settings.append(("plain adapter", "draw=1", EVERY_LABEL))
    for by, recipe, labels in settings:
        scored = {}

        def keep(prepared: Any, trained: Any, scored: Any = scored) -> None:
            scored.update(_scored(prepared, trained, texts))

        list(Recipes(folder, len(tasks), work).few_labels([recipe], [labels], THIRDS, keep))
        yield from _of_kinds(arguments.data, by, labels if recipe != "draw=1" else "all", texts, scored)


def _scored(prepared: Any, trained: Sequence[Any], texts: Any) -> dict[str, Floats]:
    """Return the probabilities that tables give texts, by task."""
    import torch

    from scoremux_train.training.batches import Example, StepRow, TrainingSet

    rows = []
    for place, task in enumerate(prepared.tasks):
        of = TrainingSet(task.task.id, task.levels, task.recipe, ())
        has_types = bool(task.examples[0].token_types)
        ids = TokenIds().of([Labelled("", task.task.id, text, 0) for _, text in texts[task.task.id]])
        rows += [
            StepRow(place, of, Example(n, 0, own, [0] * len(own) if has_types else ())) for n, own in enumerate(ids)
        ]
    tables = torch.stack([task.table for task in trained])
    found = {(row.of.name, row.example.key): shares for row, shares in prepared.trainer.predict(rows, tables)}
    names = [task.task.id for task in prepared.tasks]
    return {name: np.array([found[name, n] for n in range(len(texts[name]))]) for name in names}


def _of_kinds(corpus: str, by: str, labels: int | str, texts: Any, scored: Any) -> Iterator[Row]:
    """Yield the mean over tasks of what each kind of text gets."""
    for kind in TRICKS:
        points, top, count = [], [], 0
        for name, of_task in texts.items():
            own = [n for n, (of_kind, _) in enumerate(of_task) if of_kind == kind]
            if own:
                levels, highest = scored[name][own].argmax(1), scored[name].shape[1] - 1
                points.append((levels / highest).mean())
                top.append((levels == highest).mean())
                count += len(own)
        figures = {"points": float(np.mean(points)), "top": float(np.mean(top))}
        yield {"data": corpus, "by": by, "labels": labels, "text": kind, "texts": count, **figures}
