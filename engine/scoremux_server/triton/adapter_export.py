"""`scoremux serve --adapters`: export the backbone and publish the adapters, where that was not done before."""

import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from scoremux_engine.errors import ClosedError
from scoremux_engine.model.backbone import SPEC, Backbone
from scoremux_engine.packages.adapter_folders import BASE, Adapter, find_adapters, is_export_of
from scoremux_engine.packages.adapter_tokens import lower_limits
from scoremux_engine.packages.first_look import look_at
from scoremux_engine.packages.package_files import CONFIG_JSON
from scoremux_engine.packages.task_descriptions import DescribedAdapter, describe
from scoremux_engine.store.store import Store, refuse_duplicates
from scoremux_files.errors import first_of
from scoremux_server.errors import SetupError
from scoremux_server.triton.processes import tied

_NAMED = 3
"""Tasks that a line names."""


def publish_adapters(
    adapters: Sequence[Path],
    repository: Path,
    store: Path,
    model: str | None,
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
        look_at(folders, model)
        report(f"export   the backbone for {len(folders)} adapters; the next start needs none")
        _run(export)
    backbone = Backbone.open(exported)
    _refuse_other_model(folders, backbone, repository, model)
    described = describe(folders, backbone)
    new, earlier = _publish_new(described, backbone, Store(store), export)
    report(f"adapters {len(folders)}: {len(new)} published now")
    for line in _remarks(new, earlier, backbone):
        report(line)


def _publish_new(
    described: Sequence[DescribedAdapter], backbone: Backbone, store: Store, export: Sequence[str]
) -> tuple[list[DescribedAdapter], dict[str, str]]:
    """Publish what was never live, which is checked in full. Return it, and by task what is not live of the others.

    export: The command that would open what a closed backbone lacks.
    """
    refuse_duplicates([adapter.files for adapter in described])
    before = {line.after for line in store.history.entries() if line.is_live_change} if store.stamp() else set()
    versions = {adapter.files.task.id: adapter.files.digest() for adapter in described}
    new = [adapter for adapter in described if versions[adapter.files.task.id] not in before]
    try:
        store.publish([adapter.files for adapter in new], backbone, dry_run=not new)
    except ClosedError as error:
        command = shlex.join(["scoremux", *export])
        raise SetupError(
            f"{error.args[0]}. Move {store.folder} away, export the backbone again for all adapters of its tasks, then "
            f"serve again:\n  {command}"
        ) from error
    live = store.manifest().tasks if store.stamp() else {}
    return new, {task: digest for task, digest in versions.items() if live.get(task) != digest}


def _run(arguments: Sequence[str]) -> None:
    """Run a command of scoremux's in another process: torch must not stay in the memory of the one that serves."""
    command = tied([sys.executable, "-c", "from scoremux.app import main; main()", *arguments])
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SetupError(done.stderr.strip().removeprefix("scoremux: ") or f"the export ended with {done.returncode}")


def _refuse_other_model(folders: Sequence[Path], backbone: Backbone, repository: Path, model: str | None) -> None:
    exported = backbone.spec.source
    for folder in folders:
        base = Adapter.read(folder).base
        if not is_export_of(backbone, folder, base) and base and model is None:
            raise SetupError(
                f"{folder / CONFIG_JSON}: {BASE} is {base}, and {repository} has a backbone of {exported}; "
                f"if that has the same weights, say --backbone {exported}"
            )


def _remarks(new: Sequence[DescribedAdapter], earlier: Mapping[str, str], backbone: Backbone) -> Iterator[str]:
    """Yield which parts of `task.json` are not the adapters' own, lower limits, and which versions are not live."""
    tasks: dict[str, list[str]] = {}
    for adapter in new:
        tasks.setdefault(adapter.remark, []).append(adapter.files.task.id)
    yield from (f"tasks    {first_of(names, _NAMED)}: {remark}" for remark, names in tasks.items() if remark)
    yield from (f"adapters {sentence}" for sentence in lower_limits((adapter.limit for adapter in new), backbone))
    for task, digest in earlier.items():
        yield f"adapters {task}: version {digest[:12]} was published before and is not live now"
