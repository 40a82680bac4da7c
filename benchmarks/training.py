"""Training: all tasks in one mixed batch against one task after the other with PEFT; memory with folds; whole models.

    python -m benchmarks training training_memory --data SAF
    python -m benchmarks training --data SCIENTSBANK --against PATH_TO_CHECKOUT --tasks 9 --rounds 2
    python -m benchmarks full_finetuning --data SAF --predictions examples/saf/full_finetuning_predictions.jsonl

`training` times both with the default recipe on the same rows (`--rows-a-task` of each task). PEFT runs the loop of
`transformers.Trainer`'s defaults: rows in random order, padded to the longest of the batch, float32; and again with
rows of like length together. Its batch sizes take turns, and the fastest counts.

`full_finetuning` trains one whole model for each task, for `trained`. Targets, loss and schedule are
those of `scoremux train`.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import data
from benchmarks.case import case, data_folder
from benchmarks.child import call_aside, checkout_environment
from benchmarks.data import Labelled, described
from benchmarks.peers import batches
from benchmarks.quality import overall
from benchmarks.rows import ROOT, Row, commit

OF_TASKS = {
    "--rows-a-task": {"type": int, "default": 64, "help": "rows of each task (default: %(default)s)"},
    "--tasks": {"type": int, "default": 27, "help": "at most so many (default: %(default)s)"},
}
BATCHES = (8, 16, 32)
LOOPS = ("in random order", "of like length")
EPOCHS, LR, HEAD_LR = 15, 1e-4, 1e-3
"""Of full fine-tuning."""
PART_TOKENS = 512
"""The most tokens that are computed at once, padding included."""


def read(arguments: argparse.Namespace) -> Any:
    """Return the training rows of a corpus, at most so many of each of so many tasks."""
    from scoremux_evidence.rows.label_columns import LabelColumns
    from scoremux_train.data import read_data

    folder = data_folder(arguments.data)
    columns = LabelColumns("response_id", "task_id", score="")
    labelled = read_data([folder / "train.jsonl"], described(folder), columns)
    names = list(labelled.tasks)[:: -(-len(labelled.tasks) // arguments.tasks)]
    labelled.tasks = {task: labelled.tasks[task] for task in names}
    labelled.rows = {task: labelled.rows[task].where(slice(arguments.rows_a_task)) for task in names}
    return labelled


@dataclass(frozen=True)
class Took:
    """rows · epochs that were trained, in how many seconds and in how many of all cores' time."""

    rows: int
    seconds: float
    cpu_seconds: float

    @property
    def rate(self) -> float:
        return self.rows / self.seconds

    @property
    def cpu_rate(self) -> float:
        return self.rows / self.cpu_seconds


def ours(labelled: Any, folds: int, epochs: int) -> Took:
    """Train with the default recipe; the start is not counted."""
    from scoremux_train import run
    from scoremux_train.recipe import Plan

    try:
        from scoremux_train.training.preparation import prepare
    except ImportError:  # another commit, with --against
        prepare = run.prepare  # type: ignore[attr-defined]
    plan = Plan(folds=folds, recipe=Plan().recipe.model_copy(update={"epochs": epochs}))
    ends = (0, 0.0, 0.0)

    def progress(*words: Any) -> None:  # of another commit, with --against: the name of a stage comes first
        nonlocal ends
        ends = (words[-2], time.perf_counter(), time.process_time())

    with tempfile.TemporaryDirectory() as out:
        prepared = prepare(labelled, list(labelled.tasks), plan, str(data.minilm()))
        began_s, cpu_s = time.perf_counter(), time.process_time()
        run.train(prepared, Path(out), progress, checkpoint_s=1e9)
    return Took(ends[0], ends[1] - began_s, ends[2] - cpu_s)


def ours_aside(out: str, corpus: str, tasks: int, rows_a_task: int) -> None:
    """Train five folds and the final tables for an epoch; write what it took."""
    arguments = argparse.Namespace(data=corpus, tasks=tasks, rows_a_task=rows_a_task)
    Path(out).write_text(json.dumps(asdict(ours(read(arguments), 5, 1))), encoding="utf-8")


def against(arguments: argparse.Namespace, work: Path) -> Iterator[Row]:
    """Time this code and another checkout's in turn, each in a process of its own; the ratio is of processor time."""
    checkouts = {"this": ROOT, "before": arguments.against.absolute()}
    rounds: dict[str, list[Took]] = {code: [] for code in checkouts}
    for _ in range(arguments.rounds):
        for code, checkout in checkouts.items():
            words = (work.absolute() / "took.json", arguments.data, arguments.tasks, arguments.rows_a_task)
            call_aside("benchmarks.training:ours_aside", *words, environment=checkout_environment(checkout))
            rounds[code].append(Took(**json.loads(words[0].read_text(encoding="utf-8"))))
    for code, of in rounds.items():
        pairs = list(zip(of, rounds["before"], strict=True))
        rate, cpu_rate = (float(np.median([getattr(took, name) for took in of])) for name in ("rate", "cpu_rate"))
        yield {
            **{"data": arguments.data, "tasks": arguments.tasks, "way": "scoremux train, folds and the final tables"},
            **{"setting": f"{arguments.rows_a_task} rows a task, 1 epoch", "threads": 1, "rounds": len(of)},
            **{"code": code, "code_commit": commit(checkouts[code])},
            **{"rows_epochs_per_s": rate, "rows_epochs_per_cpu_s": cpu_rate},
            "spread": (max(took.rate for took in of) - min(took.rate for took in of)) / rate,
            "time_of_before": float(np.median([before.rate / took.rate for took, before in pairs])),
            "cpu_time_of_before": float(np.median([before.cpu_rate / took.cpu_rate for took, before in pairs])),
        }


def peft_loop(labelled: Any, batch: int, by_length: bool, epochs: int) -> Took:
    """Train one task after the other; making the models is not counted."""
    import peft
    import torch
    import transformers

    from scoremux_export.opening.openable import ALL_LINEAR
    from scoremux_train.recipe import Plan

    recipe, sites = Plan().recipe, Plan().sites
    tokenizer = transformers.AutoTokenizer.from_pretrained(data.minilm())
    draw, took_s, cpu_s, count = np.random.default_rng(1), 0.0, 0.0, 0
    for task, rows in labelled.rows.items():
        base = transformers.AutoModelForSequenceClassification.from_pretrained(
            data.minilm(), num_labels=len(labelled.tasks[task].levels)
        )
        config = peft.LoraConfig(
            task_type="SEQ_CLS", r=recipe.rank, lora_alpha=recipe.alpha, lora_dropout=recipe.dropout,
            target_modules=sites if sites == ALL_LINEAR else sites.split(","),
        )  # fmt: skip
        model = peft.get_peft_model(base, config).train()
        rate = recipe.rate(len(rows))
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=rate, fused=True)
        tokens = [tokenizer(row.text, truncation=True, max_length=512)["input_ids"] for row in rows]
        began_s, cpu_began_s = time.perf_counter(), time.process_time()
        for _ in range(epochs):
            drawn = list(map(int, draw.permutation(len(rows))))
            order = sorted(drawn, key=lambda i: len(tokens[i])) if by_length else drawn
            for start in range(0, len(rows), batch):
                places = order[start : start + batch]
                _step(model, optimizer, [tokens[i] for i in places], [rows[i].level for i in places])
        took_s += time.perf_counter() - began_s
        cpu_s += time.process_time() - cpu_began_s
        count += epochs * len(rows)
    return Took(count, took_s, cpu_s)


def _step(model: Any, optimizer: Any, tokens: Sequence[list[int]], levels: Sequence[int]) -> None:
    import torch

    ids, mask = map(torch.from_numpy, batches.padded(tokens))
    loss = torch.nn.functional.cross_entropy(model(input_ids=ids, attention_mask=mask).logits, torch.tensor(levels))
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()


@case(
    columns=(
        "data;  = way;  = setting; tasks; threads; rows·epochs/s = rows_epochs_per_s:.1f; spread = spread:.2f; "
        "a CPU second = rows_epochs_per_cpu_s:.1f; × PEFT's best in random order = x_order:.2f; "
        "of CPU time = x_cpu_order:.2f; × PEFT's best of like length = x_length:.2f; "
        "of CPU time = x_cpu_length:.2f; code = code_commit; time, × code before = time_of_before:.2f; "
        "CPU time = cpu_time_of_before:.2f"
    ),
    keys="data tasks way setting threads code",
    options={
        **OF_TASKS,
        "--threads": {"type": int, "default": 2},
        "--against": {"type": Path, "help": "a checkout of another commit, in place of PEFT"},
    },
    defaults={"rounds": 3},
)
def training(arguments: argparse.Namespace, work: Path) -> Iterator[Row]:
    """Training 27 tasks at once, and one after the other with PEFT, or with the code of another commit."""
    import torch

    if arguments.against:
        yield from against(arguments, work)
        return
    torch.set_num_threads(arguments.threads)
    labelled = read(arguments)
    rounds: dict[tuple[str, str], list[Took]] = {}
    for _ in range(arguments.rounds):
        rounds.setdefault(("scoremux train, all tasks at once", "float32"), []).append(ours(labelled, 0, 2))
        for loop in LOOPS:
            for batch in BATCHES:
                took = peft_loop(labelled, batch, loop == LOOPS[1], 1)
                rounds.setdefault((f"PEFT, one task after the other, rows {loop}", f"batch {batch}"), []).append(took)
    rates = {key: float(np.median([took.rate for took in of])) for key, of in rounds.items()}
    cpu_rates = {key: float(np.median([took.cpu_rate for took in of])) for key, of in rounds.items()}
    for key, of in rounds.items():
        ratios = {}
        for loop in LOOPS:
            peft = [other for other in rounds if other[0].endswith(loop)]
            ratios[f"x_{loop.split()[-1]}"] = rates[key] / max(rates[other] for other in peft)
            ratios[f"x_cpu_{loop.split()[-1]}"] = cpu_rates[key] / max(cpu_rates[other] for other in peft)
        spread = (max(took.rate for took in of) - min(took.rate for took in of)) / rates[key]
        setting = {"data": arguments.data, "tasks": len(labelled.tasks), "way": key[0], "setting": key[1]}
        speed = {"rows_epochs_per_s": rates[key], "rows_epochs_per_cpu_s": cpu_rates[key], "spread": spread}
        yield {**setting, "threads": arguments.threads, **speed, **ratios}


@case(
    columns="data; tables; peak, MB = peak_bytes/1e6:,.0f; seconds = seconds:.0f",
    keys="data",
    options=OF_TASKS,
)
def training_memory(arguments: argparse.Namespace, _work: Path) -> Iterator[Row]:
    """Peak memory of training 27 tasks × 6 tables."""
    labelled = read(arguments)
    took = ours(labelled, 5, 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    yield {"data": arguments.data, "tables": len(labelled.tasks) * 6, "peak_bytes": peak, "seconds": took.seconds}


def full_finetuning(words: list[str]) -> None:
    """Train one whole model for each task, print agreement on the test split, and keep predictions."""
    parser = argparse.ArgumentParser("python -m benchmarks full_finetuning")
    parser.add_argument("--data", default="SAF", help="SAF, SCIENTSBANK (folders in $SCOREMUX_DATA), or a path")
    parser.add_argument("--predictions", type=Path, help="write predictions for the test rows here, as JSONL")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--lr", type=float, default=LR)
    parser.add_argument("--head-lr", type=float, default=HEAD_LR)
    arguments = parser.parse_args(words)
    folder = data_folder(arguments.data)
    train, test = data.read_rows(folder, "train"), data.read_rows(folder)
    rows: list[Labelled] = []
    levels: list[int] = []
    for task, fields in sorted(described(folder).items()):
        own = [row for row in train if row.task == task]
        model = whole_model(own, len(fields["levels"]), arguments.epochs, arguments.lr, arguments.head_lr)
        rows += [row for row in test if row.task == task]
        levels += levels_of(model, rows[len(levels) :])
        print(task, flush=True)
    print({name: round(value, 3) for name, value in overall(rows, levels).items()})
    if arguments.predictions:
        lines = [json.dumps({"id": r.id, "task": r.task, "level": n}) for r, n in zip(rows, levels, strict=True)]
        arguments.predictions.write_text("\n".join(lines) + "\n", encoding="utf-8")


def whole_model(
    rows: Sequence[Labelled],
    levels: int,
    epochs: int = EPOCHS,
    lr: float = LR,
    head_lr: float = HEAD_LR,
    frozen: str | None = None,
) -> Any:
    """Return a transformers classifier with all of its weights trained on one task's rows.

    Args:
        levels: The width of its head.
        frozen: Parts of the encoder whose names begin so are not trained.
    """
    import torch
    import transformers

    from scoremux_train.recipe import Plan, Recipe
    from scoremux_train.training.batches import Example, TrainingSet

    torch.manual_seed(Plan().seed)
    model: Any = transformers.AutoModelForSequenceClassification.from_pretrained(
        data.minilm(), num_labels=levels, attn_implementation="eager"
    )
    recipe = Recipe(epochs=epochs, batch=16)
    examples = [
        Example(n, row.level, ids) for n, (row, ids) in enumerate(zip(rows, batches.TokenIds().of(rows), strict=True))
    ]
    training_set = TrainingSet(rows[0].task, levels, recipe, examples, seed=Plan().seed)
    body: list[Any] = []
    head: list[Any] = []
    for name, parameter in model.named_parameters():
        if frozen and name.startswith(f"bert.{frozen}"):
            parameter.requires_grad_(False)
        else:
            (head if name.startswith("classifier") else body).append(parameter)
    descend(model.train(), [{"params": body, "lr": lr}, {"params": head, "lr": head_lr}], training_set)
    return model.eval()


def descend(model: Any, groups: list[dict[str, Any]], training_set: Any) -> None:
    """Train groups of a model's parameters on the rows of a TrainingSet, with the loss of `scoremux train`.

    The rows of a step are computed in parts of like length; their gradients add up to that of the step.
    """
    import torch

    from scoremux_train.training import objective
    from scoremux_train.training.batches import micro_batches, padded, step_rows

    optimizer = torch.optim.AdamW(groups, weight_decay=objective.WEIGHT_DECAY, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: objective.learning_rate(step, training_set.steps)
    )
    trained = [parameter for group in groups for parameter in group["params"]]
    for step in range(training_set.steps):
        for rows in micro_batches(step_rows(0, training_set, step), PART_TOKENS):
            logits = model(**padded([row.example for row in rows], 0)).logits
            objective.loss(logits, rows).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(trained, objective.CLIP)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()


def levels_of(model: Any, rows: Sequence[Labelled]) -> list[int]:
    """Return each row's likeliest level, rows one at a time."""
    import torch

    with torch.inference_mode():
        return [int(model(input_ids=torch.tensor([ids])).logits.argmax()) for ids in batches.TokenIds().of(rows)]
