"""Commands that change a store: `add`, `rollback`, `retire`, `gc`, `hold`, `release`."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any

from rich.console import Console
from typer import Argument, Option

from scoremux_decide.decision import Decision
from scoremux_engine.commands.options import BackboneOption, DryRunOption, JsonOption, StoreOption, open_backbone
from scoremux_engine.commands.printing import short, show_result, show_table
from scoremux_engine.errors import StoreError
from scoremux_engine.packages.adapter_folders import find_adapters, other_bases
from scoremux_engine.packages.adapter_tokens import lower_limits
from scoremux_engine.packages.package_files import DECISION_JSON
from scoremux_engine.packages.task_descriptions import describe
from scoremux_engine.store.history import HISTORY_JSONL, Change
from scoremux_engine.store.origin import ORIGIN_JSON, OriginFile
from scoremux_engine.store.store import Store
from scoremux_engine.store.upkeep import collect
from scoremux_files.atomic import replace_file
from scoremux_files.errors import InputError, writing
from scoremux_files.settings import read_json

ByOption = Annotated[str, Option(metavar="NAME", help="Who decides it; the history keeps the name.")]


def add(
    folders: Annotated[list[Path], Argument(help="PEFT adapters, or folders of them; with a task.json or without.")],
    store: StoreOption,
    backbone: BackboneOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Check adapters in full and publish all of them at once, or none.

    Example: scoremux tasks add adapters --store repo/store
    """
    opened, opened_store = open_backbone(store, backbone), Store(store)
    described = describe(find_adapters(folders), opened)
    adapters = [adapter.files for adapter in described]
    limits = lower_limits((adapter.limit for adapter in described), opened)
    remarks = [*other_bases(adapters, opened), *limits]
    changes = opened_store.publish(adapters, opened, dry_run=dry_run)
    # One change per folder, in the folders' order.
    origins = [adapter.remark for adapter in described]
    _show(opened_store, changes, dry_run, origins=origins, remarks=remarks, as_json=as_json)


def follow(
    url: Annotated[str, Argument(help="The store in a bucket: s3://BUCKET/store, gs://…, or another URL of fsspec.")],
    store: StoreOption,
    keep_gib: Annotated[float, Option(min=0.001, help="Most GiB of packages to keep here.")] = 20,
) -> None:
    """Let a folder follow a store in a bucket: servers that read the folder fetch packages as rows need them.

    Example: scoremux tasks follow s3://exams/store --store REPO/store
    """
    if (store / HISTORY_JSONL).exists():
        raise StoreError(f"{store} is a store of its own, where versions were published; name another folder")
    with writing(store, StoreError):
        store.mkdir(parents=True, exist_ok=True)
        replace_file(store / ORIGIN_JSON, [OriginFile(url=url, keep_bytes=int(keep_gib * (1 << 30))).to_json()])
    opened = Store(store)
    opened.stamp()
    if opened.unreachable:
        raise StoreError(f"{url} cannot be reached: {opened.unreachable}")
    print(f"{store} follows {url}: {len(opened.manifest().tasks):,} tasks")


def rollback(
    task: Annotated[str, Argument(help="Id of the task; one that was retired comes back.")],
    store: StoreOption,
    to: Annotated[str | None, Option(help="Digest of the version (default: the one before).")] = None,
) -> None:
    """Make the version before the last change live again. A second rollback undoes the first.

    Example: scoremux tasks rollback en-6.3-ipp --store repo/store
    """
    opened = Store(store)
    _show(opened, [opened.rollback(task, to)])


def retire(tasks: Annotated[list[str], Argument(help="Ids of live tasks.")], store: StoreOption) -> None:
    """Stop serving tasks, all at once or none. Their packages stay, and TASK@DIGEST is still scored.

    Example: scoremux tasks retire en-6.3-ipp --store REPO/store
    """
    opened = Store(store)
    _show(opened, opened.retire(tasks))


def gc(
    store: StoreOption,
    keep_days: Annotated[float, Option(min=0, help="Keep what was live in the last days.")] = 30,
    dry_run: DryRunOption = False,
) -> None:
    """Remove packages that are not live and were not live lately, and what crashed writers left.

    Example: scoremux tasks gc --store REPO/store --keep-days 30 --dry-run
    """
    garbage = collect(Store(store), keep_days=keep_days, dry_run=dry_run)
    rows = [("package", digest, size) for digest, size in garbage.packages.items()]
    rows += [("leftover", path.name, 0) for path in garbage.leftovers]
    title = f"{sum(garbage.packages.values()):,} bytes {'would be' if dry_run else 'were'} freed"
    cells = [(kind, name[:24], f"{size:,}") for kind, name, size in rows]
    show_table(("kind", "name", "bytes"), cells, title)


def hold(
    tasks: Annotated[list[str] | None, Argument(help="Ids of live tasks.")] = None,
    *,
    store: StoreOption,
    by: ByOption,
    file: Annotated[
        Path | None, Option("--from", help="The .json file of `scoremux watch`, for the tasks that it wants held.")
    ] = None,
) -> None:
    """Send to people what the machine would keep (route human:HELD), of all of these tasks at once or of none.

    Example: scoremux tasks hold en-6.3-ipp --by "A. Lopez" --store REPO/store
    """
    opened = Store(store)
    names = list(tasks or ()) if file is None else _from(file, opened)
    if bool(tasks) == bool(file):
        raise InputError("name tasks by their ids, or by a file of them with --from")
    packages, before = [], {}
    for name in dict.fromkeys(names):
        task, digest = opened.find(opened.item_of(name))
        decision = _decision(opened, task, digest)
        if decision.held is None:
            files = opened.files(digest)
            if task not in before:  # several traits of one item
                packages.append(files.replace(DECISION_JSON, replace(decision, held=digest).to_json()))
                before[task] = digest
    changes = opened.publish(packages, open_backbone(store, None), before=before, action="hold", who=by)
    _show(opened, changes)


def release(
    task: Annotated[str, Argument(help="Id of a task that is on hold.")], store: StoreOption, by: ByOption
) -> None:
    """End a hold: the version before it is live again.

    Example: scoremux tasks release en-6.3-ipp --by "A. Lopez" --store REPO/store
    """
    opened = Store(store)
    name, digest = opened.find(opened.item_of(task))
    version_on_hold = _decision(opened, name, digest).held
    if version_on_hold is None:
        raise InputError(f"{name} is not on hold")
    change = opened.rollback(name, version_on_hold, before=digest, action="release", who=by)
    _show(opened, [change])


def _show(
    store: Store,
    changes: Sequence[Change],
    dry_run: bool = False,
    *,
    origins: Sequence[str] = (),
    remarks: Sequence[str] = (),
    as_json: bool = False,
) -> None:
    """Print changes.

    Args:
        origins: The source of each one's `task.json`, "" where the folder has it whole.
        remarks: Sentences for standard error.
    """
    rows: list[dict[str, Any]] = []
    for change, origin in zip_longest(changes, origins):
        parts = {"uncalibrated": _loses_calibration(store, change), "task_json": origin, "dry_run": dry_run}
        row = {"task": change.task, "change": change.kind, "from": change.before, "to": change.after}
        rows.append(row | {name: part for name, part in parts.items() if part})
    more = ["task.json"] if any(origins) else []
    uncalibrated = [row["task"] for row in rows if "uncalibrated" in row]
    if uncalibrated and not as_json:
        remarks = [
            f"NOT CALIBRATED, and the version before was: {', '.join(uncalibrated)}: no confidence, no conditions, and "
            "all responses go to people, until `calibrate` or `tasks rollback TASK --to DIGEST`",
            *remarks,
        ]
    cells = [
        (r["task"], r["change"], short(r["from"]), short(r["to"]), *(r.get("task_json", "") for _ in more))
        for r in rows
    ]
    title = "nothing was changed (--dry-run)" if dry_run else ""
    show_result(as_json, rows, ("task", "change", "from", "version", *more), cells, title, fold=more)
    for sentence in remarks:
        Console(stderr=True, markup=False, highlight=False, soft_wrap=True).print(sentence)


def _loses_calibration(store: Store, change: Change) -> bool:
    if not (change.before and change.after):
        return False
    after = store.packages_path / change.after
    was_calibrated = (store.packages_path / change.before / DECISION_JSON).exists()
    return was_calibrated and after.exists() and not (after / DECISION_JSON).exists()


def _decision(store: Store, task: str, digest: str) -> Decision:
    decision = store.decision(digest)
    if decision is None:
        raise InputError(f"{task} has no calibration: people get all of its responses already")
    return decision


def _from(path: Path, store: Store) -> list[str]:
    """Return the tasks of a file of holds whose version is still live; the others were changed since."""
    listed = read_json(path).get("holds")
    if not isinstance(listed, list) or not all(isinstance(item, dict) and "task" in item for item in listed):
        raise InputError(f"{path} is not what `scoremux watch --out` wrote beside its page")
    live = store.manifest().tasks
    return [str(item["task"]) for item in listed if live.get(store.item_of(str(item["task"]))) == item.get("version")]
