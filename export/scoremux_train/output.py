"""The output of training: a PEFT folder with a card for each task, and out-of-fold predictions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
from rich.console import Console

from scoremux_assess.labels.trained_rows import TrainedRows
from scoremux_assess.labels.weights import ROUTED_BESIDE, ROUTED_ONLY, SEEN_BY_START
from scoremux_assess.statistics.agreement import BY_NAME
from scoremux_assess.statistics.estimates import Figure, rounded
from scoremux_engine.packages.adapter_folders import README, WEIGHTS
from scoremux_engine.packages.package import adapter_digest
from scoremux_engine.packages.package_files import CARD, TASK_JSON, TRAINED_JSON, PackageFiles
from scoremux_files.rows.readers import text_check
from scoremux_files.rows.writers import write_rows
from scoremux_files.terminal import print_table
from scoremux_train.check import TaskCheck
from scoremux_train.cross_validated import STATISTICS, CrossValidated, OutOfFold
from scoremux_train.recipe import Plan
from scoremux_train.run import Trained, TrainedTask
from scoremux_train.training.adapter_files import START, StartDescription, write_adapter, write_start
from scoremux_train.training.preparation import Prepared

PREDICTIONS = "predictions.parquet"
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("task", pa.string()),
        ("fold", pa.int32()),
        ("level", pa.int32()),
        ("second_level", pa.int32()),
        ("probabilities", pa.list_(pa.float32())),
        ("points", pa.list_(pa.float64())),
        ("student", pa.string()),
        ("chosen_by", pa.string()),
        ("probability", pa.float64()),
        ("adapter", pa.string()),
        ("seen", pa.bool_()),
        ("text_check", pa.string()),
    ]
)
"""level, second_level: the humans'; fold: the one that the row was held out in; points: what the task's levels stand
for; adapter: the digest of what was trained on all rows (`adapter_digest`); seen: whether the shared start of an
earlier run was trained on the task; text_check: see `text_check`. Columns of administrations and groups follow, where
there are any."""

CURVE = "QWK on the same held-out responses, by how many others the adapter was trained on"
_FEW = 10
"""With fewer responses of a level, its card says that the figures tell little about it."""


def write(
    out: Path,
    prepared: Prepared,
    trained: Trained,
    out_of_fold: OutOfFold,
    checks: Mapping[str, TaskCheck],
    started_from: Path | None = None,
) -> None:
    """Write the adapters, the shared start and the predictions. Each folder replaces that of an earlier run as a whole.

    Args:
        checks: The result of the data check, by task id.
        started_from: The output of an earlier run, whose shared start was trained on its rows.
    """
    plan, layout, start = prepared.plan, prepared.layout, trained.start
    description = None if start is None else start.description
    cards = [
        card(
            task,
            checks[task.prepared.task.id],
            plan,
            out_of_fold,
            description,
        )
        for task in trained.tasks
    ]
    if start is not None:
        write_start(out / START, layout, start, plan)
    for task, text in zip(trained.tasks, cards, strict=True):
        described = task.prepared.task
        rows = TrainedRows.of(task.prepared.rows)
        if started_from is not None:
            rows = rows.plus(TrainedRows.read(started_from / described.id / TRAINED_JSON))
        texts = {
            TRAINED_JSON: rows.to_json(),
            TASK_JSON: described.model_dump_json(indent=1, exclude_defaults=True) + "\n",
            CARD: text,
            README: f"---\n{WEIGHTS}: {prepared.weights}\n---\n\nWritten by `scoremux train`; see {CARD}.\n",
        }
        recipe = task.prepared.recipe
        write_adapter(
            out / described.id,
            layout,
            task.table,
            task.prepared.levels,
            plan,
            recipe,
            texts,
        )
    if plan.folds:
        _write_predictions(out, trained.tasks)
    else:  # those of an earlier run
        (out / PREDICTIONS).unlink(missing_ok=True)


def _write_predictions(out: Path, tasks: Sequence[TrainedTask]) -> None:
    """Write a row for each labelled response that was trained on. Raises InputError."""
    rows: list[dict[str, Any]] = []
    for task in tasks:
        prepared = task.prepared
        described = prepared.task
        adapter = adapter_digest(PackageFiles(out / described.id))
        for row, fold, probabilities in zip(prepared.rows, prepared.fold_of, task.predicted, strict=True):
            predicted = {
                "id": row.id,
                "task": described.id,
                "fold": fold,
                "level": row.level,
                "second_level": row.second,
                "probabilities": probabilities.tolist(),
                "points": described.levels,
                "student": row.student,
                "administration": row.administration,
                "chosen_by": row.chosen_by,
                "probability": None if math.isnan(row.probability) else row.probability,
                "adapter": adapter,
                "seen": prepared.seen_by_start,
                "text_check": text_check(row.response),
            }
            rows.append({**row.groups, **predicted})
    groups = sorted({name for task in tasks for row in task.prepared.rows for name in row.groups})
    if any(row["administration"] for row in rows):
        groups.insert(0, "administration")
    more = [(name, pa.string()) for name in dict.fromkeys(groups) if name not in SCHEMA.names]
    schema = pa.schema([*SCHEMA, *more])
    write_rows(
        out / PREDICTIONS,
        [pa.Table.from_pylist(rows, schema=schema)],
        schema,
    )


def print_agreement(console: Console, out_of_fold: OutOfFold) -> None:
    """Print the cross-validated agreement of every task, and the remarks that a reader needs first."""
    of_task, curve = out_of_fold.of_task, out_of_fold.curve
    say = partial(console.print, markup=False, soft_wrap=True)
    if routed := [name for name, agreement in of_task.items() if agreement.routed_only]:
        say(f"{', '.join(routed)}: {ROUTED_ONLY}")
    for name, agreement in of_task.items():
        if agreement.beside:
            say(f"{name}: {agreement.beside:,} {ROUTED_BESIDE}")
    for name, agreement in of_task.items():
        if agreement.seen_by_start:
            say(f"{name}: {SEEN_BY_START}")
    _print_figures(console, out_of_fold)
    for name, agreement in of_task.items():
        if agreement.only_level is not None:
            say(f"{name}: {_only_level(agreement.only_level)}")
    if curve is not None:
        say(f"\n{CURVE}, as a mean of {curve.tasks} tasks:")
        for line in (*curve.plot(curve.mean), *out_of_fold.forecast(of_task)):
            say(line)


def _print_figures(console: Console, out_of_fold: OutOfFold) -> None:
    of_task = out_of_fold.of_task
    count = sum(bool(agreement.estimates) for agreement in of_task.values())
    titles = [BY_NAME[name].title for name in STATISTICS] if count else []
    rows = []
    for name, agreement in of_task.items():
        cells = [" ".join(_shown(figure)) for figure in agreement.figures.values()]
        rows.append(
            [
                name,
                str(agreement.rows),
                *(cells or [""] * len(titles)),
            ]
        )
    if count > 1:
        cells = [" ".join(_shown(mean.at(0))) + mean.of_fewer(0) for mean in out_of_fold.means]
        rows.append([f"mean of {count} tasks", "", *cells])
    print_table(
        console,
        ("task", "rows", *titles),
        rows,
        title="Cross-validated agreement, with 95 % intervals",
        numbers=("rows", *titles),
    )


def _shown(figure: Figure) -> tuple[str, str]:
    """Return a figure and its interval, or that there is none."""
    value, low, high = (rounded(number, 3) for number in figure)
    interval = "no interval" if math.isnan(figure.low) else f"({low} – {high})"
    return "undefined" if math.isnan(figure.value) else value, interval


def _only_level(level: int) -> str:
    return f"level {level} was predicted of every response; nothing was learned that tells responses apart"


def card(
    task: TrainedTask, check: TaskCheck, plan: Plan, out_of_fold: OutOfFold, start: StartDescription | None = None
) -> str:
    """Return `card.md`: the facts that a person should know of an adapter before using it.

    Args:
        out_of_fold: The figures of all tasks of the run.
        start: The shared start from which the adapter was trained.
    """
    described = task.prepared.task
    return f"""\
# {described.id}

{described.question}

## Data

{_data(described.levels, check)}

## Training

{_training(task, plan, start)}

## Cross-validated agreement

{_agreement(out_of_fold.of_task[described.id], plan.folds)}
{_learning(described.id, out_of_fold)}
## Known limits

{_limits(check)}
"""


def _data(points: Sequence[float], check: TaskCheck) -> str:
    counts = ", ".join(f"{value:g} points: {count}" for value, count in zip(points, check.levels, strict=True))
    humans = "No response has a second human's level."
    if check.doubly:
        qwk = "undefined" if check.human_qwk is None else rounded(check.human_qwk, 3)
        agree = f"QWK {qwk}, exact {check.human_exact:.3f}"
        humans = f"Agreement of two humans on the {check.doubly} responses that have both: {agree}."
    return f"""\
- {check.rows} responses with {check.rows - check.duplicates} different texts, each with a human's level.
- Responses by level: {counts}.
- {humans}"""


def _training(task: TrainedTask, plan: Plan, start: StartDescription | None) -> str:
    model_input, recipe = task.prepared.task.input, task.prepared.recipe
    shown = "the response alone" if model_input is None else model_input.model_dump_json(exclude_none=True)
    values = {**recipe.model_dump(), "lr": round(recipe.rate(len(task.prepared.rows)), 6)}
    backbone = Path(plan.base_model).name if Path(plan.base_model).exists() else plan.base_model
    beginning = "nothing"
    if start is not None:
        beginning = f"a shared start, trained on {start.rows} labelled responses to {len(start.tasks)} tasks"
    return f"""\
- LoRA adapter and head on the frozen backbone {backbone}; sites {plan.sites}.
- The model sees {shown}.
- Recipe: {", ".join(f"{name} {value}" for name, value in values.items())}.
- It began from {beginning}; seed {plan.seed}."""


def _agreement(agreement: CrossValidated, folds: int) -> str:
    if not agreement.figures:
        return "No folds were trained, so nothing is known."
    together = "near copies together" if agreement.students is None else "near copies and each student's together"
    notes = [
        ROUTED_ONLY if agreement.routed_only else "",
        f"{agreement.beside:,} {ROUTED_BESIDE}" if agreement.beside else "",
        f"Each response was scored by an adapter that had not seen it ({folds} folds, {together}).",
        f"Attention: {SEEN_BY_START}." if agreement.seen_by_start else "",
        "Responses weigh 1 / the probability with which they were chosen to be read." if agreement.weighted else "",
        f"Intervals are of {agreement.students} students." if agreement.students is not None else "",
        f"Attention: {_only_level(agreement.only_level)}." if agreement.only_level is not None else "",
    ]
    lines = [
        " ".join(note for note in notes if note),
        "",
        f"| of {agreement.rows} responses | value | 95 % interval |",
        "|---|---|---|",
        *(f"| {title} | {' | '.join(_shown(figure))} |" for title, figure in agreement.figures.items()),
    ]
    return "\n".join(lines)


def _learning(task: str, out_of_fold: OutOfFold) -> str:
    curve = out_of_fold.curve
    if curve is None or task not in curve.of_task:
        return ""
    of_task = "\n".join(curve.plot(curve.of_task[task])) or "undefined"
    mean = "\n".join(curve.plot(curve.mean)) or "undefined"
    forecast = "\n".join(out_of_fold.forecast([task]))
    return (
        f"\n## Learning curve\n\n{CURVE}, of this task:\n\n```\n{of_task}\n```\n\n"
        f"As a mean of {curve.tasks} tasks of this run:\n\n```\n{mean}\n```\n\n{forecast}\n"
    )


def _limits(check: TaskCheck) -> str:
    few = ", ".join(str(level) for level, count in enumerate(check.levels) if 0 < count < _FEW)
    without, rare = (", ".join(map(str, levels)) for levels in (check.without_rows, check.rare))
    lines = [
        "Scores of responses unlike those above (another population, another language, attempts to deceive) are not "
        "backed by these figures.",
        "The level comes from the text alone. Drawings, formulas and attachments are not seen.",
        f"No response had level {without}: such levels are never learned." if without else "",
        f"Fewer than {_FEW} responses had level {few}: the figures say little about them." if few else "",
        f"Level {rare} has fewer students or texts than there are folds: some adapters hardly saw it." if rare else "",
        f"{check.conflicts} texts have more than one human level." if check.conflicts else "",
    ]
    return "\n".join(f"- {line}" for line in lines if line)
