"""Training: all tasks in one mixed batch against one task after the other with PEFT; memory with folds.

    python -m benchmarks.training --case training --data SAF
    python -m benchmarks.training --case training_memory --data SAF

`training` times both with the default recipe on the same rows (`--rows-a-task` of each task). PEFT runs the loop of
`transformers.Trainer`'s defaults: rows in random order, padded to the longest of the batch, float32; and again with
rows of like length together. Its batch sizes take turns, and the fastest counts.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import case, data
from benchmarks.case import Case, Column
from benchmarks.recipes import described
from benchmarks.rows import Row

BATCHES = (8, 16, 32)
LOOPS = ("in random order", "of like length")


def read(folder: Path, most: int | None = None) -> Any:
    """Return the training rows, `most` of each task."""
    from scoremux_train.data import Columns, read_data

    read = read_data(
        [folder / "train.jsonl"], described(folder, "response"), Columns("response_id", "task_id", score="")
    )
    read.rows = {task: rows[:most] for task, rows in read.rows.items()}
    return read


def ours(read: Any, folds: int, epochs: int, precision: str) -> tuple[float, float]:
    """Train with the default recipe; return rows · epochs a second without the start, and seconds."""
    from scoremux_train.recipe import Plan
    from scoremux_train.run import Run

    default = Plan()
    recipe = default.recipe.model_copy(update={"epochs": epochs})
    plan = default.model_copy(update={"recipe": recipe, "folds": folds, "precision": precision})
    began: list[tuple[float, int]] = []

    def progress(_stage: str, done: int, _of: int) -> None:
        began.append((time.perf_counter(), done))

    with tempfile.TemporaryDirectory() as out:
        run = Run(str(data.minilm()), plan, Path(out), checkpoint_s=1e9)
        started = time.perf_counter()
        list(run.fit(read, list(read.tasks), progress))
    took_s = began[-1][0] - started
    return began[-1][1] / took_s, took_s


def peft_loop(read: Any, batch: int, by_length: bool, epochs: int) -> float:
    """Train one task after the other; return rows · epochs a second."""
    import peft
    import torch
    import transformers

    from scoremux_train.recipe import Plan

    recipe, sites = Plan().recipe, Plan().sites
    tokenizer = transformers.AutoTokenizer.from_pretrained(data.minilm())
    draw, took_s, count = np.random.default_rng(1), 0.0, 0
    for task, rows in read.rows.items():
        base = transformers.AutoModelForSequenceClassification.from_pretrained(
            data.minilm(), num_labels=len(read.tasks[task].levels)
        )
        config = peft.LoraConfig(
            task_type="SEQ_CLS", r=recipe.rank, lora_alpha=recipe.alpha, lora_dropout=recipe.dropout,
            target_modules=sites.removeprefix("re:") if sites.startswith("re:") else sites.split(","),
        )  # fmt: skip
        model = peft.get_peft_model(base, config).train()
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=recipe.lr, fused=True)
        tokens = [tokenizer(row.text, truncation=True, max_length=512)["input_ids"] for row in rows]
        began_s = time.perf_counter()
        for _ in range(epochs):
            drawn = list(map(int, draw.permutation(len(rows))))
            order = sorted(drawn, key=lambda i: len(tokens[i])) if by_length else drawn
            for start in range(0, len(rows), batch):
                _step(model, optimizer, [tokens[i] for i in order[start : start + batch]],
                      [rows[i].level for i in order[start : start + batch]])  # fmt: skip
        took_s += time.perf_counter() - began_s
        count += epochs * len(rows)
    return count / took_s


def _step(model: Any, optimizer: Any, tokens: Sequence[Sequence[int]], levels: Sequence[int]) -> None:
    import torch

    width = max(map(len, tokens))
    ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in tokens])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in tokens])
    loss = torch.nn.functional.cross_entropy(model(input_ids=ids, attention_mask=mask).logits, torch.tensor(levels))
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()


def speed(arguments: argparse.Namespace, _work: Path) -> Iterator[Row]:
    """Yield a row for each way to train, rounds in turn."""
    import torch

    torch.set_num_threads(arguments.threads)
    rows = read(case.data_folder(arguments.data), arguments.rows_a_task)
    rates: dict[tuple[str, str], list[float]] = {}
    for _ in range(arguments.rounds):
        for precision in ("auto", "float32"):
            rate, _took = ours(rows, 0, 2, precision)
            rates.setdefault(("scoremux train, all tasks at once", precision), []).append(rate)
        for loop in LOOPS:
            for batch in BATCHES:
                rate = peft_loop(rows, batch, loop == LOOPS[1], 1)
                rates.setdefault((f"PEFT, one task after the other, rows {loop}", f"batch {batch}"), []).append(rate)
    best = {loop: max(np.median(v) for (name, _), v in rates.items() if name.endswith(loop)) for loop in LOOPS}
    for (name, setting), found in rates.items():
        rate = float(np.median(found))
        spread = (max(found) - min(found)) / rate
        ratios = {f"x_{loop.split()[-1]}": rate / best[loop] for loop in LOOPS}
        yield {"data": arguments.data, "way": name, "setting": setting, "threads": arguments.threads,
               "rows_epochs_per_s": rate, "spread": spread, **ratios}  # fmt: skip


def memory(arguments: argparse.Namespace, _work: Path) -> Iterator[Row]:
    """Yield the largest resident memory of a run with five folds: a few steps of every table reach it."""
    rows = read(case.data_folder(arguments.data), arguments.rows_a_task)
    _rate, took_s = ours(rows, 5, 1, "auto")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    yield {"data": arguments.data, "tables": len(rows.tasks) * 6, "peak_bytes": peak, "seconds": took_s}


CASES = (
    Case(
        "training",
        "Training 27 tasks at once, and one after the other with PEFT",
        (
            Column("data", "data"),
            Column("", "way"),
            Column("", "setting"),
            Column("threads", "threads"),
            Column("rows·epochs/s", "rows_epochs_per_s", "{:.1f}"),
            Column("spread", "spread", "{:.2f}"),
            Column("× PEFT, random order", "x_order", "{:.2f}"),
            Column("× PEFT, like length", "x_length", "{:.2f}"),
        ),
        ("data", "way", "setting", "threads"),
        speed,
    ),
    Case(
        "training_memory",
        "Peak memory of training 27 tasks × 6 tables",
        (
            Column("data", "data"),
            Column("tables", "tables"),
            Column("peak, MB", "peak_bytes", "{:,.0f}", unit=1e6),
            Column("seconds", "seconds", "{:.0f}"),
        ),
        ("data",),
        memory,
    ),
)


def main() -> None:
    parser = case.parser(CASES, __doc__, rounds=3)
    parser.add_argument("--rows-a-task", type=int, default=64, help="rows of each task (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2)
    case.main(CASES, parser.parse_args())


if __name__ == "__main__":
    main()
