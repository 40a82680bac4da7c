"""`scoremux tasks`: put task packages into a store and look at them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

tasks = typer.Typer(no_args_is_help=True, help="Put task packages into a store and look at them.")

StoreOption = Annotated[Path, typer.Option("--store", help="Folder of the store (REPO/store).")]
BackboneOption = Annotated[
    Path | None, typer.Option("--backbone", help="Folder of the exported backbone (default: beside the store).")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


@tasks.command()
def add(
    folders: Annotated[list[Path], typer.Argument(help="PEFT adapter folders, each with a task.json.")],
    store: StoreOption,
    backbone: BackboneOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check adapters in full and publish all of them at once, or none."""
    from scoremux_engine.backbone import Backbone
    from scoremux_engine.store.store import Store

    opened = Backbone.open(backbone or store.parent / "backbone" / "1")
    changes = Store(store).add(folders, opened)
    if as_json:
        print(json.dumps([{"task": c.task, "change": c.kind, "from": c.before, "to": c.after} for c in changes]))
        return
    table = Table("task", "change", "version")
    for change in changes:
        table.add_row(change.task, change.kind, change.after[:12])
    Console().print(table)


@tasks.command("list")
def list_tasks(store: StoreOption, as_json: JsonOption = False) -> None:
    """Show the live tasks."""
    from scoremux_engine.packages.task import Task
    from scoremux_engine.store.store import Store

    opened = Store(store)
    live = [(Task.read(opened.package_folder(v)), v) for v in opened.manifest().tasks.values()]
    if as_json:
        print(json.dumps([{**task.model_dump(), "version": version} for task, version in live], ensure_ascii=False))
        return
    table = Table("task", "language", "levels", "question", "version", title=f"{len(live)} live tasks")
    table.columns[3].overflow, table.columns[3].no_wrap = "ellipsis", True
    for task, version in live:
        levels = " ".join(f"{level:g}" for level in task.levels)
        table.add_row(task.id, task.language, levels, task.question, version[:12])
    Console().print(table)
