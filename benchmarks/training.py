"""Training: all tasks in one mixed batch against one task after the other with PEFT; memory with folds.

    python -m benchmarks.training --case training --data SAF
    python -m benchmarks.training --case training_memory --data SAF
    python -m benchmarks.training --case trained --data SAF --full examples/saf/full_finetuning_predictions.jsonl
    python -m benchmarks.training --case trained --data SCIENTSBANK --adapters FOLDER --full PREDICTIONS

`training` times both with the default recipe on the same rows (`--rows-a-task` of each task). PEFT runs the loop of
`transformers.Trainer`'s defaults: rows in random order, padded to the longest of the batch, float32; and again with
rows of like length together. Its batch sizes take turns, and the fastest counts.

`trained` scores the test split with adapters that `scoremux train` wrote (by default the example adapters) and compares
them with the predictions of `benchmarks.full_finetuning`; intervals are of a paired bootstrap of rows within tasks.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks import case, data
from benchmarks.case import Case, Column
from benchmarks.data import Labelled
from benchmarks.quality import kappas
from benchmarks.recipes import described
from benchmarks.rows import Row

Levels = npt.NDArray[np.int64]
BATCHES = (8, 16, 32)
LOOPS = ("in random order", "of like length")


def read(folder: Path, most: int, tasks: int) -> Any:
    """Return the training rows, `most` of each of so many tasks."""
    from scoremux_train.data import Columns, read_data

    read = read_data(
        [folder / "train.jsonl"], described(folder, "response"), Columns("response_id", "task_id", score="")
    )
    names = list(read.tasks)
    kept = names[:: -(-len(names) // tasks)]
    read.tasks = {task: read.tasks[task] for task in kept}
    read.rows = {task: read.rows[task][:most] for task in kept}
    return read


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


def ours(read: Any, folds: int, epochs: int) -> Took:
    """Train with the default recipe; the start is not counted."""
    from scoremux_train.recipe import Plan
    from scoremux_train.run import prepare, train

    default = Plan()
    recipe = default.recipe.model_copy(update={"epochs": epochs})
    plan = default.model_copy(update={"recipe": recipe, "folds": folds})
    ends: list[tuple[int, float, float]] = []

    def progress(_stage: str, done: int, _of: int) -> None:
        ends.append((done, time.perf_counter(), time.process_time()))

    with tempfile.TemporaryDirectory() as out:
        prepared = prepare(read, list(read.tasks), plan, str(data.minilm()))
        began_s, cpu_s = time.perf_counter(), time.process_time()
        train(prepared, Path(out), progress, checkpoint_s=1e9)
    done, ended_s, cpu_ended_s = ends[-1]
    return Took(done, ended_s - began_s, cpu_ended_s - cpu_s)


def peft_loop(read: Any, batch: int, by_length: bool, epochs: int) -> Took:
    """Train one task after the other; making the models is not counted."""
    import peft
    import torch
    import transformers

    from scoremux_export.opening.sites import ALL_LINEAR
    from scoremux_train.recipe import Plan

    recipe, sites = Plan().recipe, Plan().sites
    tokenizer = transformers.AutoTokenizer.from_pretrained(data.minilm())
    draw, took_s, cpu_s, count = np.random.default_rng(1), 0.0, 0.0, 0
    for task, rows in read.rows.items():
        base = transformers.AutoModelForSequenceClassification.from_pretrained(
            data.minilm(), num_labels=len(read.tasks[task].levels)
        )
        config = peft.LoraConfig(
            task_type="SEQ_CLS", r=recipe.rank, lora_alpha=recipe.alpha, lora_dropout=recipe.dropout,
            target_modules=sites if sites == ALL_LINEAR else sites.split(","),
        )  # fmt: skip
        model = peft.get_peft_model(base, config).train()
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=recipe.lr, fused=True)
        tokens = [tokenizer(row.text, truncation=True, max_length=512)["input_ids"] for row in rows]
        began_s, cpu_began_s = time.perf_counter(), time.process_time()
        for _ in range(epochs):
            drawn = list(map(int, draw.permutation(len(rows))))
            order = sorted(drawn, key=lambda i: len(tokens[i])) if by_length else drawn
            for start in range(0, len(rows), batch):
                _step(model, optimizer, [tokens[i] for i in order[start : start + batch]],
                      [rows[i].level for i in order[start : start + batch]])  # fmt: skip
        took_s += time.perf_counter() - began_s
        cpu_s += time.process_time() - cpu_began_s
        count += epochs * len(rows)
    return Took(count, took_s, cpu_s)


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
    rows = read(case.data_folder(arguments.data), arguments.rows_a_task, arguments.tasks)
    rates: dict[tuple[str, str], list[Took]] = {}
    for _ in range(arguments.rounds):
        rates.setdefault(("scoremux train, all tasks at once", "float32"), []).append(ours(rows, 0, 2))
        for loop in LOOPS:
            for batch in BATCHES:
                took = peft_loop(rows, batch, loop == LOOPS[1], 1)
                rates.setdefault((f"PEFT, one task after the other, rows {loop}", f"batch {batch}"), []).append(took)
    best = {loop: max(_median(v, "rate") for (name, _), v in rates.items() if name.endswith(loop)) for loop in LOOPS}
    cpu = {loop: max(_median(v, "cpu_rate") for (name, _), v in rates.items() if name.endswith(loop)) for loop in LOOPS}
    for (name, setting), found in rates.items():
        rate, cpu_rate = _median(found, "rate"), _median(found, "cpu_rate")
        spread = (max(one.rate for one in found) - min(one.rate for one in found)) / rate
        ratios = {f"x_{loop.split()[-1]}": rate / best[loop] for loop in LOOPS}
        cpu_ratios = {f"x_cpu_{loop.split()[-1]}": cpu_rate / cpu[loop] for loop in LOOPS}
        yield {"data": arguments.data, "tasks": len(rows.tasks), "way": name, "setting": setting,
               "threads": arguments.threads,
               "rows_epochs_per_s": rate, "rows_epochs_per_cpu_s": cpu_rate, "spread": spread,
               **ratios, **cpu_ratios}  # fmt: skip


def _median(found: Sequence[Took], name: str) -> float:
    return float(np.median([getattr(one, name) for one in found]))


def memory(arguments: argparse.Namespace, _work: Path) -> Iterator[Row]:
    """Yield the largest resident memory of a run with five folds: a few steps of every table reach it."""
    rows = read(case.data_folder(arguments.data), arguments.rows_a_task, arguments.tasks)
    took = ours(rows, 5, 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    yield {"data": arguments.data, "tables": len(rows.tasks) * 6, "peak_bytes": peak, "seconds": took.seconds}


def trained(arguments: argparse.Namespace, work: Path) -> Iterator[Row]:
    """Yield a row for the adapters and, if there are any, one for the whole models' predictions."""
    from scoremux_engine import Engine
    from scoremux_engine.packages.adapter_folders import Adapter
    from scoremux_export.export_graph import export_backbone

    rows = data.read_rows(case.data_folder(arguments.data))
    folders = sorted(path for path in arguments.adapters.iterdir() if (path / "task.json").exists())
    export_backbone(str(data.minilm()), [Adapter.read(folder) for folder in folders], work)
    data.publish(work, folders)
    logits = Engine.open(work).logits([row.text for row in rows], [row.task for row in rows])
    ours = np.nanargmax(logits, axis=1)
    yield {"data": arguments.data, "models": f"one backbone, {len(folders)} adapters", **_agreed(rows, ours)}
    if arguments.full:
        lines = map(json.loads, arguments.full.read_text(encoding="utf-8").splitlines())
        known = {line["id"]: line["level"] for line in lines}
        full = np.array([known[row.id] for row in rows])
        name = f"{len(folders)} fully fine-tuned models"
        yield {"data": arguments.data, "models": name, **_agreed(rows, full), **_differences(rows, ours, full)}


def _shown(three: Sequence[float]) -> str:
    return f"{three[0]:+.3f} ({three[1]:+.3f} – {three[2]:+.3f})"


def _agreed(rows: Sequence[Labelled], levels: Levels) -> dict[str, Any]:
    found = kappas(rows, levels.tolist())
    return {name: found[name] for name in ("mean_qwk", "pooled_qwk", "exact")}


def _differences(rows: Sequence[Labelled], ours: Levels, full: Levels, draws: int = 1000) -> dict[str, str]:
    """Return adapters minus whole models, with 95 % intervals: value, low, high."""
    draw, tasks = np.random.default_rng(12), np.array([row.task for row in rows])
    places = [np.flatnonzero(tasks == task) for task in sorted(set(tasks))]
    found: dict[str, list[float]] = {"mean_qwk": [], "pooled_qwk": []}
    for turn in range(draws + 1):
        drawn = np.concatenate([own if turn == 0 else draw.choice(own, len(own)) for own in places])
        picked = [rows[i] for i in drawn]
        one, other = (_agreed(picked, levels[drawn]) for levels in (ours, full))
        for name, values in found.items():
            values.append(one[name] - other[name])
    three = {name: [v[0], *map(float, np.quantile(v[1:], [0.025, 0.975]))] for name, v in found.items()}
    return {f"shown_{name.removesuffix('_qwk')}": _shown(values) for name, values in three.items()}


CASES = (
    Case(
        "training",
        "Training 27 tasks at once, and one after the other with PEFT",
        (
            Column("data", "data"),
            Column("", "way"),
            Column("", "setting"),
            Column("tasks", "tasks"),
            Column("threads", "threads"),
            Column("rows·epochs/s", "rows_epochs_per_s", "{:.1f}"),
            Column("spread", "spread", "{:.2f}"),
            Column("a CPU second", "rows_epochs_per_cpu_s", "{:.1f}"),
            Column("× PEFT's best in random order", "x_order", "{:.2f}"),
            Column("of CPU time", "x_cpu_order", "{:.2f}"),
            Column("× PEFT's best of like length", "x_length", "{:.2f}"),
            Column("of CPU time", "x_cpu_length", "{:.2f}"),
        ),
        ("data", "tasks", "way", "setting", "threads"),
        speed,
    ),
    Case(
        "trained",
        "Agreement with humans on test responses: adapters of `scoremux train` and whole models",
        (
            Column("data", "data"),
            Column("", "models"),
            Column("mean QWK of the tasks", "mean_qwk", "{:.3f}"),
            Column("pooled QWK", "pooled_qwk", "{:.3f}"),
            Column("exact", "exact", "{:.3f}"),
            Column("adapters minus whole models: mean QWK (95 % interval)", "shown_mean"),
            Column("pooled QWK", "shown_pooled"),
        ),
        ("data", "models"),
        trained,
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
    parser.add_argument("--tasks", type=int, default=27, help="at most so many (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--adapters", type=Path, default=data.ADAPTERS, help="folder of adapter folders")
    parser.add_argument("--full", type=Path, help="predictions of benchmarks.full_finetuning")
    case.main(CASES, parser.parse_args())


if __name__ == "__main__":
    main()
