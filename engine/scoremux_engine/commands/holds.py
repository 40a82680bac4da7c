"""Commands that give a task's responses to people when its promise is in doubt, and take that back."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from scoremux_decide.decision import Decision
from scoremux_engine.commands.changes import row_of, show_changes
from scoremux_engine.commands.options import StoreOption, open_backbone, open_store
from scoremux_engine.packages.package_files import DECISION_JSON, PackageFiles
from scoremux_engine.store.store import Store
from scoremux_files.errors import InputError, reading
from scoremux_files.settings import parse_file

ByOption = Annotated[str, typer.Option("--by", metavar="NAME", help="Who decides it; the history keeps the name.")]


def hold(
    tasks: Annotated[list[str] | None, typer.Argument(help="Ids of live tasks.")] = None,
    *,
    store: StoreOption,
    by: ByOption,
    file: Annotated[
        Path | None,
        typer.Option("--from", help="The .json file of `scoremux watch`, for the tasks that it wants held."),
    ] = None,
) -> None:
    """Send to people what the machine would keep (route human:HELD), of all of these tasks at once or of none.

    Example: scoremux tasks hold en-6.3-ipp --by "A. Lopez" --store REPO/store
    """
    opened = open_store(store)
    names = list(tasks or ()) if file is None else _from(file, opened)
    if bool(tasks) == bool(file):
        raise InputError("name tasks by their ids, or by a file of them with --from")
    packages, before = [], {}
    for name in dict.fromkeys(names):
        task, digest = opened.find(name)
        decision = _decision(opened, task, digest)
        if decision.held is None:
            files = PackageFiles(opened.package_folder(digest))
            packages.append(files.replace(DECISION_JSON, replace(decision, held=digest).to_json()))
            before[task] = digest
    changes = opened.publish(packages, open_backbone(store, None), before=before, action="hold", who=by)
    show_changes([row_of(opened, change) for change in changes])


def release(
    task: Annotated[str, typer.Argument(help="Id of a task that is on hold.")],
    store: StoreOption,
    by: ByOption,
) -> None:
    """End a hold: the version before it is live again.

    Example: scoremux tasks release en-6.3-ipp --by "A. Lopez" --store REPO/store
    """
    opened = open_store(store)
    name, digest = opened.find(task)
    version_on_hold = _decision(opened, name, digest).held
    if version_on_hold is None:
        raise InputError(f"{name} is not on hold")
    change = opened.rollback(name, version_on_hold, before=digest, action="release", who=by)
    show_changes([row_of(opened, change)])


def _decision(store: Store, task: str, digest: str) -> Decision:
    decision = store.decision(digest)
    if decision is None:
        raise InputError(f"{task} has no calibration: people get all of its responses already")
    return decision


def _from(path: Path, store: Store) -> list[str]:
    """Return the tasks of a file of holds whose version is still live; the others were changed since."""
    with reading(path):
        listed = parse_file(path.read_bytes(), path).get("holds")
    if not isinstance(listed, list) or not all(isinstance(item, dict) and "task" in item for item in listed):
        raise InputError(f"{path} is not what `scoremux watch --out` wrote beside its page")
    live = store.manifest().tasks
    return [str(item["task"]) for item in listed if live.get(str(item["task"])) == item.get("version")]
