"""`scoremux tasks`: publish task packages, look at them, move them, keep a store clean."""

from __future__ import annotations

import typer

from scoremux_engine.commands import archives, changes, upkeep, versions

tasks = typer.Typer(no_args_is_help=True, help="Put task packages into a store, look at them, and take them back.")

tasks.command()(changes.add)
tasks.command("list")(versions.list_tasks)
tasks.command()(versions.show)
tasks.command()(versions.diff)
tasks.command()(versions.history)
tasks.command()(changes.rollback)
tasks.command()(changes.retire)
tasks.command()(upkeep.pin)
tasks.command()(upkeep.gc)
tasks.command()(upkeep.verify)
tasks.command("export")(archives.export)
tasks.command("import")(archives.import_)
