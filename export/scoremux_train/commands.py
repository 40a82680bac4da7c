"""`scoremux train`: labelled responses → PEFT adapters, out-of-fold predictions, cards."""

from __future__ import annotations

import json
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from scoremux_client.errors import InputError
from scoremux_files.errors import first_of
from scoremux_files.rows.row_layout import COLUMN_HELP, column_names
from scoremux_train.training.progress import LOCK_TIMEOUT_S, quieten, show_progress

_UNIT = "passes of a response through an adapter (responses × epochs × adapters)"
_STAGES = {"start": "shared start", "tasks": "tasks, folds and final adapters"}


def train(
    sources: Annotated[list[Path], typer.Argument(help="Labelled responses: .csv, .jsonl or .parquet files.")],
    backbone: Annotated[
        str, typer.Option(help="Folder or hub id of the model that the adapters are for (not needed with --check).")
    ] = "",
    out: Annotated[Path | None, typer.Option(help="Folder for the output: one adapter folder per task.")] = None,
    tasks: Annotated[
        Path | None,
        typer.Option(help="File of tasks: id, levels, question, reference, rubric, language, template."),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="train.toml: recipe, sites, folds, seed.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Check the data and stop.")] = False,
    check_json: Annotated[Path | None, typer.Option(help="Write the data check as JSON, too.")] = None,
    start: Annotated[
        Path | None,
        typer.Option(
            help="--out of an earlier run: adapters begin from its shared start (useful from about 50 rows a task)."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    cores: Annotated[
        int, typer.Option(min=0, help="How many cores to use; 0: all. The adapters do not depend on it.")
    ] = 0,
    checkpoint_s: Annotated[float, typer.Option(min=0, help="Seconds between checkpoints.")] = 60.0,
    column: Annotated[
        list[str] | None,
        typer.Option(
            "--column",
            metavar="KEY=NAME",
            help=f"{COLUMN_HELP}, task, text, level (counted from 0), score (points, for rows without a level), second "
            "(another human's level or score), student (whose rows stay in one fold) or group (kept in the "
            "predictions; may be given again).",
        ),
    ] = None,
) -> None:
    """Train an adapter for every task, all tasks and folds in one mixed batch.

    Rows have the columns task, text, and level or score. Rows whose column split is neither empty nor `train` are held
    out. Re-run the same command to resume a run that was stopped; the adapters are those of an uninterrupted run.

    Example: scoremux train labelled.csv --backbone sentence-transformers/all-MiniLM-L6-v2 --out adapters
    """
    from scoremux_train.check import LEAST_ROWS, as_json, print_checks, remarks
    from scoremux_train.check import check as run_check
    from scoremux_train.data import Columns, read_data, read_tasks
    from scoremux_train.recipe import Plan

    plan = Plan.read(config) if config else Plan()
    names = column_names(
        column, id="id", task="task", text="text", level="level", score="score", second="", student="", group=()
    )
    columns = Columns(groups=names.pop("group"), **names)
    described = read_tasks(tasks) if tasks else {}
    data = read_data(sources, described, columns)
    checks = run_check(data, plan.folds, LEAST_ROWS if start is None else max(2, 2 * plan.folds))
    console = Console(highlight=False, markup=False)
    print_checks(console, checks)
    for line in remarks(data, checks):
        console.print(line, soft_wrap=True)
    if without := sorted(described.keys() - data.tasks.keys()):
        console.print(f"no labelled row, so no adapter: {first_of(without)}; people score such tasks", soft_wrap=True)
    if check_json:
        check_json.write_text(json.dumps(as_json(data, checks), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if check:
        return
    if not backbone or out is None:
        raise InputError("training needs --backbone and --out; --check does not")
    from scoremux_files.atomic import NEW
    from scoremux_files.errors import writing
    from scoremux_files.locks import locked
    from scoremux_train.errors import DataError
    from scoremux_train.output import print_agreement, write
    from scoremux_train.run import CHECKPOINTS
    from scoremux_train.run import train as train_tables
    from scoremux_train.training.adapter_files import START
    from scoremux_train.training.preparation import prepare

    trainable = [check.task for check in checks if check.trainable]
    if not trainable:
        raise DataError("no task has enough rows to be trained")
    quieten()
    name = plan.base_model or (Path(backbone).name if Path(backbone).exists() else backbone)
    plan = plan.model_copy(update={"base_model": plan.base_model or backbone})  # as PEFT does
    with ExitStack() as stack:
        with writing(out):
            out.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(out / ".training.lock", LOCK_TIMEOUT_S))
        progress = stack.enter_context(show_progress(_STAGES, _UNIT))
        for path in out.glob(f"{NEW}*"):
            if path.is_file():  # of a run that was killed while it wrote its predictions
                path.unlink()
        prepared = prepare(data, trainable, plan, backbone, device, cores=cores, start=start and start / START)
        trained = train_tables(prepared, out, progress, checkpoint_s)
        with writing(out):
            write(out, prepared, trained, {check.task: check for check in checks}, name)
        shutil.rmtree(out / CHECKPOINTS, ignore_errors=True)
    print_agreement(console, trained)
    console.print(f"serve them with: scoremux serve --repository REPO --adapters {out}", soft_wrap=True)
