"""Commands that move task packages between stores: `export`, `import`."""

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
from scoremux_engine.commands.output import short, show_json, show_table


def export(
    tasks: Annotated[list[str], typer.Argument(help="TASK: becomes live where imported; TASK@DIGEST: beside it.")],
    store: StoreOption,
    out: Annotated[Path, typer.Option("--out", help="File of the archive (.tar).")],
    as_json: JsonOption = False,
) -> None:
    """Write versions of tasks into one archive: same versions, same bytes."""
    from scoremux_engine.store.archive import export_archive

    versions = export_archive(open_store(store), tasks, out)
    if as_json:
        show_json([{"task": task, "version": digest} for digest, task in versions.items()])
        return
    show_table(("task", "version"), [(task, short(d)) for d, task in versions.items()], title=f"written to {out}")


def import_(
    file: Annotated[Path, typer.Argument(help="An archive that `export` wrote.")],
    store: StoreOption,
    backbone: BackboneOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Check an archive in full and publish it at once, or nothing of it; TASK@DIGEST versions arrive pinned."""
    from scoremux_engine.store.archive import import_archive

    arrived = import_archive(open_store(store), file, open_backbone(store, backbone), dry_run=dry_run)
    rows = [(c.task, c.kind, c.before, c.after) for c in arrived.changes]
    rows += [(task, "pinned", None, digest) for digest, task in arrived.pinned.items()]
    if as_json:
        more = {"dry_run": True} if dry_run else {}
        show_json([{"task": t, "change": kind, "from": before, "to": after, **more} for t, kind, before, after in rows])
        return
    cells = [(task, kind, short(before), short(after)) for task, kind, before, after in rows]
    show_table(
        ("task", "change", "from", "version"), cells, title="nothing was changed (--dry-run)" if dry_run else None
    )
