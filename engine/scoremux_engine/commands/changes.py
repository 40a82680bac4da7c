"""Commands that change what is live: `add`, `rollback`, `retire`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scoremux_engine.commands.options import (
    BackboneOption,
    DryRunOption,
    JsonOption,
    StoreOption,
    open_backbone,
    open_store,
)
from scoremux_engine.commands.output import show_changes


def add(
    folders: Annotated[list[Path], typer.Argument(help="PEFT adapter folders, each with a task.json.")],
    store: StoreOption,
    backbone: BackboneOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Check adapters in full and publish all of them at once, or none."""
    changes = open_store(store).add(folders, open_backbone(store, backbone), dry_run=dry_run)
    show_changes(changes, as_json, dry_run)


def rollback(
    task: Annotated[str, typer.Argument(help="Id of the task; one that was retired comes back.")],
    store: StoreOption,
    to: Annotated[str | None, typer.Option("--to", help="Digest of the version (default: the one before).")] = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make the version before the last change live again; doing it twice undoes it."""
    show_changes([open_store(store).rollback(task, to, dry_run=dry_run)], as_json, dry_run)


def retire(
    tasks: Annotated[list[str], typer.Argument(help="Ids of live tasks.")],
    store: StoreOption,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Stop serving tasks, all at once or none; their packages stay, and TASK@DIGEST is still scored."""
    show_changes(open_store(store).retire(tasks, dry_run=dry_run), as_json, dry_run)
