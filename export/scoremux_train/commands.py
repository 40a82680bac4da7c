"""`scoremux train`: labelled responses → PEFT adapters, out-of-fold predictions, cards."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from scoremux_client.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scoremux_train.check import TaskCheck
    from scoremux_train.data import Data
    from scoremux_train.recipe import Plan
    from scoremux_train.run import Fitted

PREDICTIONS = "predictions.parquet"


def train(
    sources: Annotated[list[Path], typer.Argument(help="Labelled responses: .csv, .jsonl or .parquet files.")],
    backbone: Annotated[
        str, typer.Option(help="Folder or hub id of the model that the adapters are for (not needed with --check).")
    ] = "",
    out: Annotated[Path | None, typer.Option(help="Folder to write one adapter folder a task into.")] = None,
    tasks: Annotated[
        Path | None, typer.Option(help="File of tasks: task, levels, question, reference, rubric, language, input.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="train.toml: recipe, sites, folds, seed.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Check the data and stop.")] = False,
    check_json: Annotated[Path | None, typer.Option(help="Write the data check as JSON, too.")] = None,
    start: Annotated[
        Path | None, typer.Option(help="--out of an earlier run whose shared start the adapters begin from.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    checkpoint_s: Annotated[float, typer.Option(min=0, help="Seconds between checkpoints.")] = 60.0,
    id_column: Annotated[str, typer.Option(help="Column of the rows' ids; without one, FILE:LINE.")] = "id",
    task_column: Annotated[str, typer.Option(help="Column of task ids.")] = "task",
    text_column: Annotated[str, typer.Option(help="Column of the responses' texts.")] = "text",
    second_column: Annotated[str, typer.Option(help="Column of a second human's level or score.")] = "",
    group: Annotated[list[str] | None, typer.Option(help="Column to keep in the predictions; may be repeated.")] = None,
) -> None:
    """Train an adapter for every task, all tasks and folds in one mixed batch.

    Rows have the columns task, text, and level or score. Rows whose column split is neither empty nor `train` are held
    out. Re-run the same command to resume a run that was stopped; the adapters are those of an uninterrupted run.

    Example: scoremux train labelled.csv --backbone sentence-transformers/all-MiniLM-L6-v2 --out adapters
    """
    from scoremux_train.check import as_json, as_table, remarks
    from scoremux_train.check import check as run_check
    from scoremux_train.data import Columns, read_data, read_tasks
    from scoremux_train.recipe import Plan

    plan = Plan.read(config) if config else Plan()
    columns = Columns(id_column, task_column, text_column, second=second_column, groups=tuple(group or ()))
    data = read_data(sources, read_tasks(tasks) if tasks else {}, columns)
    checks = run_check(data, plan.folds)
    console = Console(highlight=False)
    console.print(as_table(checks))
    for line in remarks(data, checks):
        console.print(line, markup=False, soft_wrap=True)
    if check_json:
        check_json.write_text(json.dumps(as_json(data, checks), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if check:
        return
    if not backbone or out is None:
        raise InputError("training needs --backbone and --out; --check does not")
    trained = _train(data, checks, plan, backbone, out, device, checkpoint_s, start)
    console.print(_results(trained))
    console.print(f"written to {out}; publish with: scoremux tasks add {out}/*/ --store REPO/store", soft_wrap=True)


def _train(
    data: Data,
    checks: Sequence[TaskCheck],
    plan: Plan,
    backbone: str,
    out: Path,
    device: str,
    checkpoint_s: float,
    start: Path | None,
) -> list[Fitted]:
    import transformers

    from scoremux_engine.packages.source import CARD, TASK_JSON
    from scoremux_files.atomic import NEW
    from scoremux_files.locks import locked
    from scoremux_train.adapters import write_adapter
    from scoremux_train.card import card
    from scoremux_train.errors import DataError
    from scoremux_train.predictions import write_predictions
    from scoremux_train.progress import showing
    from scoremux_train.run import Run

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    chosen = {one.task: one for one in checks if one.trainable}
    if not chosen:
        raise DataError("no task has enough rows to be trained")
    name = plan.base_model or (Path(backbone).name if Path(backbone).exists() else backbone)
    plan = plan.model_copy(update={"base_model": plan.base_model or backbone})  # as PEFT does
    out.mkdir(parents=True, exist_ok=True)
    with locked(out / ".training.lock"), showing() as progress:
        for left in out.glob(f"{NEW}*"):
            if left.is_file():  # of a run that was killed while it wrote its predictions
                left.unlink()
        run = Run(backbone, plan, out, device, checkpoint_s)
        trained = list(run.fit(data, list(chosen), progress, start))
        begun = start is not None or plan.shared.epochs > 0
        for one in trained:
            texts = {
                TASK_JSON: one.task.model_dump_json(indent=1, exclude_defaults=True) + "\n",
                CARD: card(one, chosen[one.task.id], plan, name, begun),
            }
            levels = len(one.task.levels)
            write_adapter(out / one.task.id, run.layout, one.table, levels, plan, one.recipe, texts)
        if plan.folds:
            write_predictions(out / PREDICTIONS, trained)
        run.finish()
    return trained


def _results(trained: Sequence[Fitted]) -> Table:
    from scoremux_train.card import STATISTICS, cross_validated

    table, kappas = Table("task", "rows", title="Cross-validated agreement, with 95 % intervals"), []
    for one in trained:
        agreed = cross_validated(one)
        if len(table.columns) == 2:
            for title in agreed:
                table.add_column(title, justify="right")
        cells = [f"{x.value:.3f} ({x.low:.3f} – {x.high:.3f})" for x in agreed.values()]
        table.add_row(one.task.id, str(len(one.rows)), *cells)
        kappas += [x.value for x in list(agreed.values())[:1] if not math.isnan(x.value)]
    if kappas:
        table.add_section()
        mean = f"{sum(kappas) / len(kappas):.3f}"
        table.add_row(f"mean of {len(kappas)} tasks", "", mean, *[""] * (len(STATISTICS) - 1))
    return table
