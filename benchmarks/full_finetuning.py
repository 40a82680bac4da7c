"""Full fine-tuning: one whole model for each task, for comparison with adapters.

    python -m benchmarks.full_finetuning --data SAF --predictions examples/saf/full_finetuning_predictions.jsonl
    python -m benchmarks.full_finetuning --data SAF --out MODELS
    python -m benchmarks.full_finetuning --data SCIENTSBANK --validate --set lr=2e-4

Targets, loss and schedule are those of `scoremux train`. `--validate` holds back a quarter of the training rows, with
equal texts on one side, and prints QWK on those: recipes are chosen there, never on the test split.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import case, data
from benchmarks.data import Labelled


@dataclass(frozen=True)
class Recipe:
    """How a whole model is trained."""

    epochs: int = 15
    lr: float = 1e-4
    head_lr: float = 1e-3
    batch: int = 16
    seed: int = 20241221


def fit(rows: Sequence[Labelled], levels: int, recipe: Recipe) -> Any:
    """Return a transformers classifier with all of its weights trained on one task's rows."""
    import torch
    import transformers

    from scoremux_train.recipe import Recipe as Shared
    from scoremux_train.training import objective
    from scoremux_train.training.batches import Example, TrainingSet, padded, step_rows

    torch.manual_seed(recipe.seed)
    model: Any = transformers.AutoModelForSequenceClassification.from_pretrained(
        data.minilm(), num_labels=levels, attn_implementation="eager"
    )
    shared = Shared(epochs=recipe.epochs, batch=recipe.batch)
    examples = [Example(n, row.level, ids) for n, (row, ids) in enumerate(zip(rows, tokens(rows), strict=True))]
    training_set = TrainingSet(rows[0].task, levels, shared, examples, seed=recipe.seed)
    body: list[Any] = []
    head: list[Any] = []
    for name, parameter in model.named_parameters():
        (head if name.startswith("classifier") else body).append(parameter)
    groups = [{"params": body, "lr": recipe.lr}, {"params": head, "lr": recipe.head_lr}]
    optimizer = torch.optim.AdamW(groups, weight_decay=shared.weight_decay, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: objective.learning_rate(shared, step, training_set.steps)
    )
    model.train()
    for step in range(training_set.steps):
        batch = step_rows(0, training_set, step)
        loss = objective.loss(model(**padded(batch, 0)).logits, batch)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), shared.clip)
        optimizer.step()
        schedule.step()
    return model.eval()


def tokens(rows: Sequence[Labelled]) -> list[list[int]]:
    """Return each row's token ids."""
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(data.minilm())
    return list(tokenizer([row.text for row in rows], truncation=True, max_length=512)["input_ids"])


def predict(model: Any, rows: Sequence[Labelled]) -> list[int]:
    """Return each row's level, rows one at a time."""
    import torch

    with torch.inference_mode():
        return [int(model(input_ids=torch.tensor([ids])).logits.argmax()) for ids in tokens(rows)]


def hold_back(rows: Sequence[Labelled]) -> tuple[list[Labelled], list[Labelled]]:
    """Return a task's rows in two: those to train on, and a quarter held back, as `benchmarks.recipes` holds it out."""
    from scoremux_train.data import LabelledResponse
    from scoremux_train.recipe import Plan
    from scoremux_train.training.folds import assign

    known = [LabelledResponse(row.id, row.text, row.level, None, "", {}) for row in rows]
    fold_of = assign(known, 4, Plan().seed, rows[0].task, "folds")
    parts: tuple[list[Labelled], list[Labelled]] = ([], [])
    for row, fold in zip(rows, fold_of, strict=True):
        parts[fold == 0].append(row)
    return parts


def save(model: Any, folder: Path) -> None:
    """Write a model's folder whole, so that a run that was stopped can go on with the tasks that lack one."""
    unfinished = folder.with_name(f".{folder.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    model.save_pretrained(str(unfinished))
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="SAF", help="SAF, SCIENTSBANK (folders in $SCOREMUX_DATA), or a path")
    parser.add_argument("--out", type=Path, help="write one model folder per task here")
    parser.add_argument("--predictions", type=Path, help="write predictions for the test rows here, as JSONL")
    parser.add_argument("--validate", action="store_true", help="hold back a quarter of the training rows")
    parser.add_argument("--tasks", nargs="*", help="these tasks only")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="change the recipe")
    arguments = parser.parse_args()
    from benchmarks.quality import kappas

    changes = dict(change.split("=") for change in arguments.set)
    recipe = Recipe(**{name: type(getattr(Recipe(), name))(value) for name, value in changes.items()})
    folder = case.data_folder(arguments.data)
    known = {task["task_id"]: task["levels"] for task in json.loads((folder / "tasks.json").read_text("utf-8"))}
    train, test = data.read_rows(folder, "train"), [] if arguments.validate else data.read_rows(folder)
    scored: list[tuple[Labelled, int]] = []
    for task in arguments.tasks or sorted(known):
        levels = known[task] if isinstance(known[task], int) else len(known[task])
        own, held = [row for row in train if row.task == task], [row for row in test if row.task == task]
        own, held = hold_back(own) if arguments.validate else (own, held)
        began_s = time.perf_counter()
        model = fit(own, levels, recipe)
        scored += list(zip(held, predict(model, held), strict=True))
        if arguments.out:
            save(model, arguments.out / task)
        print(f"{task}\t{time.perf_counter() - began_s:.1f} s", flush=True)
    found = kappas([row for row, _ in scored], [level for _, level in scored])
    del found["tasks"]
    print({name: round(float(np.mean(value)), 3) for name, value in found.items()}, recipe)
    if arguments.predictions:
        lines = [json.dumps({"id": row.id, "task": row.task, "level": level}) for row, level in scored]
        arguments.predictions.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
