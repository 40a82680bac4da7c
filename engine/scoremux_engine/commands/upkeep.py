"""Commands that keep a store in order: `pin`, `gc`, `verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scoremux_engine.commands.options import DryRunOption, JsonOption, StoreOption, open_backbone, open_store
from scoremux_engine.commands.output import short, show_json, show_table


def pin(
    versions: Annotated[
        list[str] | None, typer.Argument(help="TASK or TASK@DIGEST; without any, show the pins.")
    ] = None,
    *,
    store: StoreOption,
    remove: Annotated[bool, typer.Option("--remove", help="Unpin instead.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Keep versions from `gc` until they are unpinned."""
    opened = open_store(store)
    change = opened.unpin if remove else opened.pin
    pins = change(versions) if versions else opened.pins.read()
    if as_json:
        show_json([{"task": task, "version": digest} for digest, task in pins.items()])
        return
    show_table(("task", "version"), [(task, short(digest)) for digest, task in pins.items()], title="pinned")


def gc(
    store: StoreOption,
    keep_days: Annotated[float, typer.Option("--keep-days", min=0, help="Keep what was live in the last days.")] = 30,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Remove packages that are not live, not pinned and were not live lately, and leftovers of crashed writers."""
    from scoremux_engine.store.collect import collect

    garbage = collect(open_store(store), keep_days=keep_days, dry_run=dry_run)
    rows = [("package", digest, size) for digest, size in garbage.packages.items()]
    rows += [("leftover", path.name, 0) for path in garbage.leftovers]
    if as_json:
        more = {"dry_run": True} if dry_run else {}
        show_json([{"kind": kind, "name": name, "bytes": size, **more} for kind, name, size in rows])
        return
    title = f"{sum(garbage.packages.values()):,} bytes {'would be' if dry_run else 'were'} freed"
    show_table(("kind", "name", "bytes"), [(kind, name[:24], f"{size:,}") for kind, name, size in rows], title=title)


def verify(
    store: StoreOption,
    backbone: Annotated[
        Path | None, typer.Option("--backbone", help="Also check live packages in full against this backbone.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Hash every package again, hold manifest, pins and history against them; exit status 1 if anything is wrong."""
    from scoremux_engine.store.verify import verify as find_problems

    opened = open_store(store)
    problems = list(find_problems(opened, open_backbone(store, backbone) if backbone else None))
    packages = len(opened.digests())
    if as_json:
        show_json({"packages": packages, "problems": [{"where": p.where, "what": p.what} for p in problems]})
    else:
        title = f"{packages} packages, {len(problems)} problems"
        show_table(("where", "what is wrong"), [(p.where, p.what) for p in problems], title=title)
    if problems:
        raise typer.Exit(1)
