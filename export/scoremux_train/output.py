"""The output of training: a PEFT folder with a card for each task, and out-of-fold predictions."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
from rich.console import Console

from scoremux_engine.packages.adapter_folders import README, WEIGHTS
from scoremux_engine.packages.package import adapter_digest
from scoremux_engine.packages.package_files import CARD, TASK_JSON, TRAINED_JSON, PackageFiles
from scoremux_engine.packages.task import Task
from scoremux_evidence.figures.agreement import BY_NAME
from scoremux_evidence.rows.table import Rows
from scoremux_evidence.rows.trained_rows import TrainedRows
from scoremux_evidence.show.words import shown
from scoremux_files.rows.readers import text_check
from scoremux_files.rows.writers import write_rows
from scoremux_files.settings import check
from scoremux_files.terminal import print_table
from scoremux_train.card import card
from scoremux_train.check import TaskCheck
from scoremux_train.cross_validated import STATISTICS, OutOfFold
from scoremux_train.errors import DataError
from scoremux_train.run import TrainedTask
from scoremux_train.training.adapter_files import write_adapter
from scoremux_train.training.preparation import Prepared, PreparedTask

PREDICTIONS = "predictions.parquet"
SCHEMA = pa.schema(
    {
        "id": "string",
        "task": "string",
        "fold": "int32",
        "level": "int32",
        "second_level": "int32",
        "probabilities": pa.list_(pa.float32()),
        "points": pa.list_(pa.float64()),
        "student": "string",
        "chosen_by": "string",
        "probability": "float64",
        "adapter": "string",
        "text_check": "string",
    }
)
"""level, second_level: the humans'; fold: the one that the row was held out in; points: what the task's levels stand
for; adapter: the digest of what was trained on all rows (`adapter_digest`); text_check: see `text_check`. Columns of
administrations and groups follow, where there are any."""


def write(
    out: Path,
    prepared: Prepared,
    trained: Sequence[TrainedTask],
    out_of_fold: OutOfFold,
    checks: Mapping[str, TaskCheck],
) -> None:
    """Write the adapters and the predictions. Each folder replaces that of an earlier run as a whole.

    Args:
        checks: The result of the data check, by task id.
    """
    plan, layout = prepared.plan, prepared.layout
    contents = []
    for task in trained:
        described = with_hand_written(task.prepared.task, out)
        texts = {
            TRAINED_JSON: _trained_rows(task.prepared).to_json(),
            TASK_JSON: described.model_dump_json(indent=1, exclude_defaults=True) + "\n",
            CARD: card(task, checks, plan, out_of_fold),
            README: f"---\n{WEIGHTS}: {prepared.weights}\n---\n\nWritten by `scoremux train`; see {CARD}.\n",
        }
        contents.append(texts)
    for task, texts in zip(trained, contents, strict=True):
        write_adapter(
            out / task.prepared.task.id, layout, task.table, task.prepared.levels, plan, task.prepared.recipe, texts
        )
    if plan.folds:
        _write_predictions(out, [part for task in trained for part in task.by_trait()])
    else:  # those of an earlier run
        (out / PREDICTIONS).unlink(missing_ok=True)


def with_hand_written(task: Task, out: Path) -> Task:
    """Return a task with the fields of the earlier `task.json` that people write by hand.

    These are the total, the feedback and the names of traits. Raises DataError where they do not fit the task's levels.
    """
    path = out / task.id / TASK_JSON
    if not path.exists():
        return task
    written = PackageFiles(path.parent).task.model_dump(include={"total", "feedback", "traits"}, exclude_defaults=True)
    of_traits = written.pop("traits", {})
    fields = task.model_dump(exclude_defaults=True)
    for name, trained in fields.get("traits", {}).items():
        fields["traits"][name] = of_traits.get(name, {}) | trained
    where = f"{path}: this run keeps its total and its feedback, which do not fit; correct or remove them"
    return check(Task, written | fields, where, DataError)


def _trained_rows(task: PreparedTask) -> TrainedRows:
    if task.unlabelled is None:
        return TrainedRows.of(task.rows)
    parts = [rows.only(("task", "id", "has_id", "administration", "text")) for rows in (task.rows, task.unlabelled)]
    return TrainedRows.of(Rows.joined(parts), len(task.rows))


def _write_predictions(out: Path, tasks: Sequence[TrainedTask]) -> None:
    """Write a row for each labelled response that was trained on. Raises InputError."""
    parts = []
    for task in tasks:
        prepared = task.prepared
        described = prepared.task
        rows = prepared.rows
        count = len(rows)
        checks = [text_check(text or "") for text in rows.text]
        columns = {
            "id": rows.id,
            "task": [described.id] * count,
            "fold": prepared.fold_of,
            "level": prepared.human,
            "second_level": [None if math.isnan(second) else int(second) for second in rows.second],
            "probabilities": [shares.tolist() for shares in task.predicted],
            "points": [described.levels] * count,
            "student": rows.student.texts(),
            "chosen_by": rows.chosen_by.texts(),
            "probability": [None if math.isnan(share) else share for share in rows.probability],
            "adapter": [adapter_digest(PackageFiles(out / (prepared.folder or described.id)))] * count,
            "text_check": checks,
        }
        names = ["administration", "cluster", *sorted(name for name in rows.columns if name.startswith("group "))]
        more = {name.removeprefix("group "): rows[name].texts() for name in names}
        columns |= {name: [cell or "" for cell in cells] for name, cells in more.items() if name not in SCHEMA.names}
        schema = pa.schema([*SCHEMA, *((name, "string") for name in columns if name not in SCHEMA.names)])
        parts.append(pa.table(columns, schema=schema))
    table = pa.concat_tables(parts)
    empty = [name for name in ("administration", "cluster") if not any(table[name].to_pylist())]
    table = table.drop_columns(empty)
    write_rows(out / PREDICTIONS, [table], table.schema)


def print_agreement(console: Console, out_of_fold: OutOfFold) -> None:
    """Print the cross-validated agreement of every task, and what a reader should know of its rows."""
    of_task = out_of_fold.of_task
    count = sum(bool(agreement.figures) for agreement in of_task.values())
    titles = [BY_NAME[name].title for name in STATISTICS] if count else []
    rows = []
    for name, agreement in of_task.items():
        cells = [str(shown(figure, 0, digits=3)) for figure in agreement.figures.values()]
        rows.append([name, str(agreement.rows), *(cells or [""] * len(titles))])
    if count > 1:
        cells = [str(shown(mean, 0, digits=3)) for mean in out_of_fold.means]
        rows.append([f"mean of {count} tasks", "", *cells])
    print_table(
        console,
        ("task", "rows", *titles),
        rows,
        title="Cross-validated agreement, with 95 % intervals",
        numbers=("rows", *titles),
        notes=[f"{name}: {' '.join(agreement.notes)}" for name, agreement in of_task.items() if agreement.notes],
    )
