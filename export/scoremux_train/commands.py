"""`scoremux train`: labelled responses → PEFT adapters, out-of-fold predictions, cards."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from typer import Argument, Option

from scoremux_client.errors import InputError
from scoremux_files.atomic import NEW, replace_file
from scoremux_files.errors import first_of, writing
from scoremux_files.locks import locked
from scoremux_files.rows.row_layout import LABELS_HELP
from scoremux_files.terminal import takes
from scoremux_train.progress import LOCK_TIMEOUT_S, show_progress

if TYPE_CHECKING:
    from scoremux_train.check import TaskCheck
    from scoremux_train.data import Data
    from scoremux_train.recipe import Plan

UNUSABLE_STATUS = 3
"""Exit status of --check where rows cannot be used, as `scoremux score` has it for rejected rows."""
_BACKBONE = "Folder or hub id of the model that the adapters are for (not needed with --check)."
_TASKS = "File of tasks: id, levels, question, reference, rubric, language, template."
_CORES = "How many cores to use; 0: all. The adapters do not depend on it."
_UNLABELLED = "Answers without labels, for tasks with a reference and fewer than 48 labels; may be given again."
_START = "start.json of an earlier run: for --unlabelled where this run has labels of few other tasks."
_COLUMN = (
    f"{LABELS_HELP}, task, text, level (counted from 0), score (points, for rows without a level), second (another "
    "human's level or score), student (whose rows stay in one fold) or group (kept in the predictions; may be given "
    "again)."
)


@dataclass(frozen=True)
class TrainOptions:
    """The options of `scoremux train`."""

    sources: Annotated[list[Path], Argument(help="Labelled responses: .csv, .jsonl or .parquet files.")]
    backbone: Annotated[str, Option(help=_BACKBONE)] = ""
    out: Annotated[Path | None, Option(help="Folder for the output: one adapter folder per task.")] = None
    tasks: Annotated[Path | None, Option(help=_TASKS)] = None
    config: Annotated[Path | None, Option(help="train.toml: recipe, sites, folds, seed.")] = None
    check: Annotated[bool, Option("--check", help="Check the data and stop.")] = False
    device: Annotated[str, Option(help="cpu, cuda or cuda:N.")] = "cpu"
    cores: Annotated[int, Option(min=0, help=_CORES)] = 0
    unlabelled: Annotated[list[Path] | None, Option(help=_UNLABELLED)] = None
    start: Annotated[Path | None, Option(help=_START)] = None
    column: Annotated[list[str] | None, Option(metavar="KEY=NAME", help=_COLUMN)] = None


@takes(TrainOptions)
def train(options: TrainOptions) -> None:
    """Train an adapter for every task, all tasks and folds in one mixed batch.

    Rows have the columns task, text, and level or score. Rows whose column split is neither empty nor `train` are held
    out. Re-run the same command to resume a run that was stopped; the adapters are those of an uninterrupted run.

    Example: scoremux train labelled.csv --backbone sentence-transformers/all-MiniLM-L6-v2 --out adapters
    """
    train_as(options)


def train_as(options: TrainOptions, checkpoint_s: float = 60.0) -> None:
    """Rows → prepared → trained → written; with --check, stop after the rows. checkpoint_s: between checkpoints."""
    console = Console(highlight=False, markup=False)
    plan, data, checks = _read(options, console)
    if options.check and data.bad:
        raise typer.Exit(UNUSABLE_STATUS)
    if options.check:
        return
    backbone, out = options.backbone, options.out
    if not backbone or out is None:
        raise InputError("training needs --backbone and --out; --check does not")
    from scoremux_engine.packages.package_files import CONFIG_JSON
    from scoremux_export.opening.classifier import quieten
    from scoremux_train import output, run
    from scoremux_train.cross_validated import OutOfFold
    from scoremux_train.errors import DataError
    from scoremux_train.reference_comparison import START_JSON, ReferenceComparison, comparisons, shipped_start
    from scoremux_train.training.preparation import prepare

    plain = data.adapters_of([check.task for check in checks if check.trainable])
    if not plain and not data.unlabelled:
        raise DataError("no task has enough rows to be trained")
    for task in (*data.tasks.values(), *data.items.values()):
        output.with_hand_written(task, out)  # refuses the run before it begins where they do not fit
    start = ReferenceComparison.read(options.start) if options.start else None
    learned, comparison_of = comparisons(data, start)
    if shipped := [name for name, comparison in comparison_of.items() if comparison is shipped_start()]:
        why = "there are too few labels of other tasks, so it is taught by the start that comes with scoremux"
        console.print(f"{first_of(shipped)}: {why}", soft_wrap=True)
    quieten()
    plan = plan.model_copy(update={"base_model": plan.base_model or backbone})  # as PEFT does
    with ExitStack() as stack:
        with writing(out):
            out.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(out / ".training.lock", LOCK_TIMEOUT_S))
        progress = stack.enter_context(show_progress())
        for path in out.glob(f"{NEW}*"):
            if path.is_file():  # of a run that was killed while it wrote its predictions
                path.unlink()
        prepared = prepare(data, plain, plan, backbone, options.device, options.cores, comparison_of)
        trained, said = run.better(run.train(prepared, out, progress, checkpoint_s))
        out_of_fold = OutOfFold.of([part for task in trained for part in task.by_trait()])
        with writing(out):
            output.write(out, prepared, trained, out_of_fold, {check.task: check for check in checks})
            if learned is not None:
                replace_file(out / START_JSON, [learned.model_dump_json().encode()])
        shutil.rmtree(out / run.CHECKPOINTS, ignore_errors=True)
    output.print_agreement(console, out_of_fold)
    for line in said:
        console.print(line, soft_wrap=True)
    chosen = {task.prepared.task.id for task in trained}
    if earlier := sorted({path.parent.name for path in out.glob(f"[!.]*/{CONFIG_JSON}")} - chosen):
        console.print(f"adapters of earlier runs are still in {out}: {first_of(earlier)}", soft_wrap=True)
    console.print(f"serve them with: scoremux serve --repository REPO --adapters {out}", soft_wrap=True)


def _read(options: TrainOptions, console: Console) -> tuple[Plan, Data, list[TaskCheck]]:
    """Read the labelled responses, check them, and print their flaws."""
    from scoremux_evidence.rows.label_columns import label_columns
    from scoremux_train.check import check, print_checks, remarks
    from scoremux_train.data import read_data
    from scoremux_train.recipe import Plan
    from scoremux_train.task_table import read_tasks

    plan = Plan.read(options.config) if options.config else Plan()
    keys = ("level", "score", "second", "rater")
    columns = label_columns(options.column, *keys, group="group", data=options.sources[0])
    described = read_tasks(options.tasks) if options.tasks else {}
    data = read_data(options.sources, described, columns, options.unlabelled or ())
    checks = check(data, plan.folds)
    print_checks(console, checks)
    for line in remarks(data, checks):
        console.print(line, soft_wrap=True)
    if without := sorted(described.keys() - data.tasks.keys() - data.items.keys()):
        console.print(f"no labelled row, so no adapter: {first_of(without)}; people score such tasks", soft_wrap=True)
    return plan, data, checks
