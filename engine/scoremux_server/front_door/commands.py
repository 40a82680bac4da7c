"""`scoremux tokens`: who may use the front door; `scoremux front-door`: a door for Tritons that run elsewhere."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

tokens = typer.Typer(
    no_args_is_help=True,
    help="Bearer tokens of the front door; their file holds digests only.",
    epilog="Example: scoremux tokens add district-7 --tokens tokens.json --tasks 'bio-*'",
)

FileOption = Annotated[Path, typer.Option("--tokens", help="The tokens' file.")]
Name = Annotated[str, typer.Argument(help="Whose token it is; appears in the door's log.")]


@tokens.command()
def add(
    name: Name,
    file: FileOption,
    tasks: Annotated[list[str], typer.Option(help="Tasks it may score, with * and ? as in a shell; repeatable.")],
    rate: Annotated[int, typer.Option(help="Requests a second, averaged over ten seconds; 0: no limit.")] = 0,
    days: Annotated[int, typer.Option(min=1, max=3650, help="Days until it expires.")] = 365,
) -> None:
    """Make a token and print it. It cannot be shown again.

    Example: scoremux tokens add grader --tokens door/tokens.json --tasks 'en-*' --tasks de-1 --days 180
    """
    from scoremux_server.front_door.access_tokens import Tokens

    print(Tokens(file).add(name, tasks, rate, days))
    print(f"{name}: store the token now, it is not kept anywhere; it expires in {days} days", file=sys.stderr)


@tokens.command("list")
def list_tokens(
    file: FileOption, as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False
) -> None:
    """Show who has a token, and for what.

    Example: scoremux tokens list --tokens tokens.json
    """
    from scoremux_engine.commands.output import show_json, show_table
    from scoremux_server.front_door.access_tokens import Tokens

    known = Tokens(file).read()
    if as_json:
        show_json([json.loads(token.model_dump_json(exclude={"sha256"})) for token in known])
        return
    rows = [
        (
            token.name,
            " ".join(token.tasks),
            str(token.rate or "no limit"),
            f"{token.created:%Y-%m-%d}",
            f"{token.ends:%Y-%m-%d}",
        )
        for token in known
    ]
    show_table(("name", "tasks", "requests/s", "created", "expires"), rows, title=f"{len(known)} tokens")


@tokens.command()
def revoke(name: Name, file: FileOption) -> None:
    """Revoke a token; a running front door refuses it within a second.

    Example: scoremux tokens revoke district-7 --tokens tokens.json
    """
    from scoremux_server.front_door.access_tokens import Tokens

    Tokens(file).revoke(name)
    print(f"revoked {name}", file=sys.stderr)


def front_door(
    file: Annotated[Path, typer.Argument(help="The door's configuration, FILE.toml.")],
    log: Annotated[Path, typer.Option(help="HAProxy's log.")] = Path("haproxy.log"),
    print_config: Annotated[bool, typer.Option("--print-config", help="Print haproxy.cfg, and end.")] = False,
) -> None:
    """Run a front door for the Tritons in FILE's `backends` until SIGINT or SIGTERM; requests in flight then finish.

    Example: scoremux front-door door.toml
    """
    from scoremux_server.commands import stop_event
    from scoremux_server.front_door.door import FrontDoor
    from scoremux_server.watch.console import Report

    report, stop = Report(), stop_event()
    door = FrontDoor(file, log, report=report)
    if print_config:
        print(door.rendered())
        return
    try:
        with door:
            report(f"front door  {door.url}")
            report("ready; Ctrl-C stops")
            stop.wait()
        report("stopped")
    finally:
        report.end()
