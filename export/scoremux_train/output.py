"""What a run of training writes: a PEFT folder with a card for each task, and out-of-fold predictions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from rich.console import Console

from scoremux_assess.agreement.estimates import Figure
from scoremux_assess.agreement.intervals import estimates
from scoremux_assess.agreement.ratings import Ratings
from scoremux_assess.agreement.statistics import BY_NAME
from scoremux_engine.packages.package_files import CARD, TASK_JSON
from scoremux_files.rows.writers import write_rows
from scoremux_files.terminal import print_table
from scoremux_train.check import TaskCheck
from scoremux_train.recipe import Plan
from scoremux_train.run import START, Prepared, Trained, TrainedTask
from scoremux_train.training.adapter_files import write_adapter

PREDICTIONS = "predictions.parquet"
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("task", pa.string()),
        ("fold", pa.int32()),
        ("level", pa.int32()),
        ("second_level", pa.int32()),
        ("probabilities", pa.list_(pa.float32())),
    ]
)
"""level, second_level: the humans'; fold: the one that the row was held out in. Columns of groups follow."""

STATISTICS = ("qwk", "exact", "adjacent", "smd")
_FEW = 10


def write(
    out: Path, prepared: Prepared, trained: Trained, checks: Mapping[str, TaskCheck], backbone: str, used_start: bool
) -> None:
    """Write what was trained. Each folder replaces that of an earlier run as a whole.

    Args:
        out: The folder of the run.
        prepared: What the tables were trained from.
        trained: The tables.
        checks: What the data check counts, by task id.
        backbone: Its name for the cards.
        used_start: Whether training began from a shared start.

    Raises:
        InputError: A file cannot be written.
    """
    plan, layout = prepared.plan, prepared.layout
    for levels, table in trained.starts.items():
        write_adapter(out / START / f"levels-{levels}", layout, table, levels, plan, plan.recipe, {})
    for task in trained.tasks:
        described = task.prepared.task
        texts = {
            TASK_JSON: described.model_dump_json(indent=1, exclude_defaults=True) + "\n",
            CARD: card(task, checks[described.id], plan, backbone, used_start),
        }
        recipe = task.prepared.recipe
        write_adapter(out / described.id, layout, task.table, task.prepared.levels, plan, recipe, texts)
    if plan.folds:
        _write_predictions(out / PREDICTIONS, trained.tasks)


def _write_predictions(path: Path, tasks: Sequence[TrainedTask]) -> None:
    """Write a row for each labelled response that was trained on. Raises InputError."""
    groups = sorted({name for task in tasks for row in task.prepared.rows for name in row.groups})
    rows = [
        {
            **row.groups,
            "id": row.id,
            "task": task.prepared.task.id,
            "fold": fold,
            "level": row.level,
            "second_level": row.second,
            "probabilities": p.tolist(),
        }
        for task in tasks
        for row, fold, p in zip(task.prepared.rows, task.prepared.fold_of, task.predicted, strict=True)
    ]
    schema = pa.schema([*SCHEMA, *((name, pa.string()) for name in groups if name not in SCHEMA.names)])
    write_rows(path, [pa.Table.from_pylist(rows, schema=schema)], schema)


def cross_validated(task: TrainedTask) -> dict[str, Figure]:
    """Return how well out-of-fold predictions agree with the human levels, by title; empty without folds."""
    if not len(task.predicted[0]):
        return {}
    human, machine = [row.level for row in task.prepared.rows], [int(np.argmax(p)) for p in task.predicted]
    statistics = [BY_NAME[name] for name in STATISTICS]
    figures = estimates(statistics, Ratings.of(human, machine), np.zeros(len(human), np.int64), 1)
    return {s.title: figures[s.name].at(0) for s in statistics}


def print_agreement(console: Console, trained: Trained) -> None:
    """Print the cross-validated agreement of every task."""
    heads = [BY_NAME[name].title for name in STATISTICS if len(trained.tasks[0].predicted[0])]
    rows, kappas = [], []
    for task in trained.tasks:
        figures = list(cross_validated(task).values())
        cells = [f"{x.value:.3f} ({x.low:.3f} – {x.high:.3f})" for x in figures]
        rows.append([task.prepared.task.id, str(len(task.prepared.rows)), *cells])
        kappas += [x.value for x in figures[:1] if not math.isnan(x.value)]
    if kappas:
        mean = f"{sum(kappas) / len(kappas):.3f}"
        rows.append([f"mean of {len(kappas)} tasks", "", mean, *("" for _ in heads[1:])])
    title = "Cross-validated agreement, with 95 % intervals"
    print_table(console, ("task", "rows", *heads), rows, title=title, numbers=("rows", *heads))


def card(task: TrainedTask, check: TaskCheck, plan: Plan, backbone: str, used_start: bool) -> str:
    """Return `card.md`: what a person should know of an adapter before using it.

    Args:
        task: The trained task.
        check: What the data check counts.
        plan: How it was trained.
        backbone: Its name.
        used_start: Whether training began from a shared start.
    """
    described = task.prepared.task
    points = ", ".join(
        f"{value:g} points: {count}" for value, count in zip(described.levels, check.levels, strict=True)
    )
    humans = "No response has a second human's level."
    if check.doubly:
        agree = f"QWK {check.human_qwk:.3f}, exact {check.human_exact:.3f}"
        humans = f"Agreement of two humans on the {check.doubly} responses that have both: {agree}."
    shown = "the response alone" if described.input is None else described.input.model_dump_json(exclude_none=True)
    recipe = ", ".join(f"{name} {value}" for name, value in task.prepared.recipe.model_dump().items())
    start = "a shared start trained over all tasks" if used_start else "nothing"
    return f"""\
# {described.id}

{described.question}

## Data

- {check.rows} responses with {check.rows - check.duplicates} different texts, each with a human's level.
- Responses by level: {points}.
- {humans}

## Training

- LoRA adapter and head on the frozen backbone {backbone}; sites {plan.sites}.
- The model sees {shown}.
- Recipe: {recipe}.
- It began from {start}; seed {plan.seed}.

## Cross-validated agreement

{_agreement(cross_validated(task), check.rows, plan.folds)}

## Known limits

{_limits(check)}
"""


def _agreement(figures: Mapping[str, Figure], rows: int, folds: int) -> str:
    if not figures:
        return "No folds were trained, so nothing is known."
    lines = [
        f"Each response was scored by an adapter that had not seen it ({folds} folds, equal texts together).",
        "",
        f"| of {rows} responses | value | 95 % interval |",
        "|---|---|---|",
        *(f"| {title} | {x.value:.3f} | {x.low:.3f} – {x.high:.3f} |" for title, x in figures.items()),
    ]
    return "\n".join(lines)


def _limits(check: TaskCheck) -> str:
    few = ", ".join(str(level) for level, count in enumerate(check.levels) if 0 < count < _FEW)
    without = ", ".join(map(str, check.without_rows))
    lines = [
        "Scores of responses unlike those above (another population, another language, attempts to deceive) are not "
        "backed by these figures.",
        "The level comes from the text alone. Drawings, formulas and attachments are not seen.",
        f"No response had level {without}: such levels are never learned." if without else "",
        f"Fewer than {_FEW} responses had level {few}: the figures say little about them." if few else "",
        f"{check.conflicts} texts have more than one human level." if check.conflicts else "",
    ]
    return "\n".join(f"- {line}" for line in lines if line)
