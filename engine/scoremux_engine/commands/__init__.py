"""`scoremux tasks`: publish task packages, look at them, take them back, and remove old ones."""

import typer

from scoremux_engine.commands import changes, views

tasks = typer.Typer(
    no_args_is_help=True,
    help="Publish task packages, look at them, and take them back.",
    epilog="Example: scoremux tasks add adapters --store REPO/store",
)

tasks.command()(changes.add)
tasks.command()(changes.follow)
tasks.command("list")(views.list_tasks)
tasks.command()(views.show)
tasks.command()(views.history)
tasks.command()(changes.rollback)
tasks.command()(changes.retire)
tasks.command()(changes.hold)
tasks.command()(changes.release)
tasks.command()(changes.gc)
tasks.command()(views.verify)
