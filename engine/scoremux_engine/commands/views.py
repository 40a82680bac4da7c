"""Commands that look at a store: `list`, `show`, `history`, `verify`."""

import json
from typing import Annotated, Any

import typer
from typer import Argument

from scoremux_engine.commands.options import JsonOption, StoreOption
from scoremux_engine.commands.printing import short, show_result, show_table
from scoremux_engine.errors import PackageError
from scoremux_engine.store.store import Store
from scoremux_engine.store.upkeep import verify as find_problems

Reference = Annotated[str, Argument(help="TASK, its live version, or TASK@DIGEST; the digest may be cut short.")]


def list_tasks(store: StoreOption, as_json: JsonOption = False) -> None:
    """Show the live tasks of a store.

    Example: scoremux tasks list --store repo/store
    """
    opened = Store(store)
    rows = [
        {**_description(opened, task, digest), "version": digest} for task, digest in opened.manifest().tasks.items()
    ]
    cells = [
        (
            row["id"],
            row.get("language", ""),
            " ".join(f"{level:g}" for level in row.get("levels", ())) or ", ".join(row.get("traits", ())),
            row.get("problem") or " ".join(row["question"].split()),
            short(row["version"]),
        )
        for row in rows
    ]
    columns = ("task", "language", "levels or traits", "question", "version")
    show_result(as_json, rows, columns, cells, f"{len(rows)} live tasks", fold=("question",))


def _description(store: Store, task: str, digest: str) -> dict[str, Any]:
    """Return a version's description of its task, or why that cannot be read."""
    try:
        return store.files(digest).task.model_dump(exclude_none=True)
    except PackageError as error:
        return {"id": task, "problem": str(error)}


def show(version: Reference, store: StoreOption, as_json: JsonOption = False) -> None:
    """Show one version of a task: its description, its size, and the task's other versions in the store.

    Example: scoremux tasks show en-6.3-ipp --store repo/store
    """
    opened = Store(store)
    task, digest = opened.find(version if "@" in version else opened.item_of(version))
    files = opened.files(digest)
    summary = {
        **files.task.model_dump(mode="json", exclude_none=True),
        "bytes": sum((files.path / name).stat().st_size for name in files.names),
        "version": digest,
        "live": opened.manifest().tasks.get(task) == digest,
        "versions": opened.versions(task),
    }
    cells = [(key, _cell(value)) for key, value in summary.items()]
    show_result(as_json, summary, ("", version), cells, fold=(version,))


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def history(
    store: StoreOption, task: Annotated[str | None, Argument(help="Id of a task (default: all).")] = None
) -> None:
    """Show every change, newest last.

    Example: scoremux tasks history en-6.3-ipp --store REPO/store
    """
    opened = Store(store)
    opened.manifest_bytes()
    entries = opened.history.entries(task)
    rows = [
        (f"{e.when:%Y-%m-%d %H:%M:%S} UTC", e.who, e.task, e.action, short(e.before), short(e.after)) for e in entries
    ]
    show_table(("when", "who", "task", "change", "from", "to"), rows, f"{len(rows)} changes")


def verify(store: StoreOption) -> None:
    """Hash every package again, and compare the manifest with them. Exit status 1 if anything is wrong.

    Example: scoremux tasks verify --store REPO/store
    """
    opened = Store(store)
    problems = list(find_problems(opened))
    columns, rows = ("where", "what is wrong"), [(p.where, p.what) for p in problems]
    show_table(columns, rows, f"{len(opened.digests())} packages, {len(problems)} problems", fold=columns[1:])
    if problems:
        raise typer.Exit(1)
