"""`scoremux serve --adapters`: export the backbone and publish the adapters, where that was not done before."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from scoremux_engine.errors import ClosedError
from scoremux_engine.model.backbone import SPEC, Backbone
from scoremux_engine.packages.adapter_folders import BASE, Adapter, find_adapters, is_export_of
from scoremux_engine.packages.adapter_tokens import lower_limits
from scoremux_engine.packages.package_files import CONFIG_JSON
from scoremux_engine.packages.task_descriptions import DescribedAdapter, describe
from scoremux_engine.packages.task_table import read_table
from scoremux_engine.store.history import Change
from scoremux_engine.store.store import Store
from scoremux_files.errors import first_of
from scoremux_server.errors import SetupError
from scoremux_server.triton.process import tied

_NAMED = 3
"""Tasks that a line names."""

_New = list[tuple[str, DescribedAdapter]]


def publish_adapters(
    adapters: Sequence[Path],
    repository: Path,
    store: Path,
    model: str | None,
    tasks: Path | None,
    report: Callable[[str], None],
) -> None:
    """Export a backbone where there is none yet, and publish the adapters that never were.

    A version that was rolled back or retired stays so.

    Args:
        adapters: Folders of adapters, or folders that hold some.
        model: Folder or hub id with the weights of their base model; None for the one that they name.

    Raises:
        ScoremuxError: An adapter is wrong, of another model or needs a site that is closed, or the export failed.
            Nothing was published then.
    """
    weights = [model, "--same-weights"] if model else []
    export = ["export", "backbone", *weights, "--for", *map(str, adapters), "--out", str(repository)]
    folders = find_adapters(adapters)
    exported = repository / "backbone" / "1"
    if not (exported / SPEC).is_file():
        report(f"export   the backbone for {len(folders)} adapters; the next start needs none")
        _run(export)
    backbone = Backbone.open(exported)
    if model is None:
        _refuse_other_model(folders, backbone.spec.source, repository)
    described = describe(folders, backbone, read_table(tasks) if tasks else None)
    new, earlier = _publish_new(described, backbone, Store(store), export)
    report(f"adapters {len(folders)}: {len(new)} published now")
    for line in _remarks(new, earlier, backbone):
        report(line)


def _publish_new(
    described: Sequence[DescribedAdapter], backbone: Backbone, store: Store, export: Sequence[str]
) -> tuple[_New, list[Change]]:
    """Publish what was never live. Return the tasks and adapters of that, and what is not live of the others.

    export: The command that would open what a closed backbone lacks.
    """
    before = {line.after for line in store.history.entries() if line.is_live_change} if store.stamp() else set()
    try:
        changes = store.publish([adapter.files for adapter in described], backbone, dry_run=True)
        pairs = zip(changes, described, strict=True)
        new = [(change.task, adapter) for change, adapter in pairs if change.after not in before]
        if new:
            store.publish([adapter.files for _, adapter in new], backbone)
    except ClosedError as error:
        command = shlex.join(["scoremux", *export, "--replace-store"])
        raise SetupError(
            f"{error.what}. Export the backbone again for all adapters, then serve again; this renames the store, "
            f"so give the folders of all its tasks:\n  {command}"
        ) from error
    return new, [change for change in changes if change.after in before and change.before != change.after]


def _run(arguments: Sequence[str]) -> None:
    """Run a command of scoremux's in another process: torch must not stay in the memory of the one that serves."""
    command = tied([sys.executable, "-c", "from scoremux_cli.app import main; main()", *arguments])
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SetupError(done.stderr.strip().removeprefix("scoremux: ") or f"the export ended with {done.returncode}")


def _refuse_other_model(folders: Sequence[Path], exported: str, repository: Path) -> None:
    for folder in folders:
        base = Adapter.read(folder).base
        if base and not is_export_of(exported, base):
            raise SetupError(
                f"{folder / CONFIG_JSON}: {BASE} is {base}, and {repository} has a backbone of {exported}; "
                f"if that has the same weights, say --backbone {exported}"
            )


def _remarks(new: _New, earlier: Sequence[Change], backbone: Backbone) -> Iterator[str]:
    """Yield which parts of `task.json` are not the adapters' own, lower limits, and which versions are not live."""
    tasks: dict[str, list[str]] = {}
    for task, adapter in new:
        tasks.setdefault(adapter.remark, []).append(task)
    yield from (f"tasks    {first_of(names, _NAMED)}: {remark}" for remark, names in tasks.items() if remark)
    yield from (f"adapters {sentence}" for sentence in lower_limits((adapter.limit for _, adapter in new), backbone))
    for change in earlier:
        yield f"adapters {change.task}: version {str(change.after)[:12]} was published before and is not live now"
