"""`scoremux review users`: who signs in to the desk."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from typer import Option

from scoremux_files.terminal import printable

if TYPE_CHECKING:
    from scoremux_desk.database.connection import Database

BY = "command line"
"""Who does it, for the record."""

Where = Annotated[str, Option(help="A file (SQLite), or a postgresql:// URL.", envvar="SCOREMUX_REVIEW_DATABASE")]
console = Console(stderr=True, markup=False)

users = typer.Typer(
    no_args_is_help=True,
    help="People who sign in to the desk.",
    epilog="Example: scoremux review users add anna --role rater --database reviews.db",
)


def say(line: str) -> None:
    """Print a line to standard error."""
    console.print(printable(line), soft_wrap=True, highlight=False)


def opened(name: str) -> Database:
    """Open the database of a desk. Raises InputError if there is none."""
    from scoremux_desk.database.connection import Database

    return _announced(Database(name))


@contextmanager
def created(name: str) -> Iterator[Database]:
    """Open the database of a desk, or create it; a new one that is still empty is removed if what follows fails."""
    from scoremux_desk.database.connection import Database

    desk = _announced(Database(name, create=True))
    try:
        yield desk
    except Exception:
        desk.remove_new()
        raise


def _announced(desk: Database) -> Database:
    if desk.removed:
        say(desk.removed)
    return desk


@users.command("add")
def add_user(
    name: str,
    database: Where,
    role: Annotated[str, Option(help="rater, leader or director.")] = "rater",
    elsewhere: Annotated[
        bool, Option("--elsewhere", help="They sign in at the proxy of --user-header, without a password.")
    ] = False,
) -> None:
    """Add a person; the password is asked for, or read from standard input.

    Example: scoremux review users add anna --role rater --database reviews.db
    """
    from scoremux_desk.database import accounts

    password = None if elsewhere else _password()
    with created(database) as desk:
        accounts.add_person(desk, name, role, password, BY)
    say(f"added: {name}, {role}")


@users.command("change")
def change_user(
    name: str,
    database: Where,
    role: Annotated[str | None, Option(help="rater, leader or director.")] = None,
    active: Annotated[bool | None, Option("--open/--close", help="Open or close the account.")] = None,
    password: Annotated[bool, Option("--password", help="Ask for a new password.")] = False,
) -> None:
    """Change someone's role or password, or close the account: they are signed out.

    Example: scoremux review users change anna --role leader --database reviews.db
    """
    from scoremux_desk.database import accounts

    accounts.change_person(opened(database), name, BY, role, active, _password() if password else None)


def _password() -> str:
    if sys.stdin.isatty():
        return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))
    return sys.stdin.readline().rstrip("\n")
