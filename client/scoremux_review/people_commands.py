"""`scoremux review users` and `pools`: who signs in to the desk, and raters who share tasks and quotas."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from scoremux_files.terminal import print_table, printable

if TYPE_CHECKING:
    from scoremux_review.database.connection import Database

BY = "command line"
"""Who does it, for the record."""

Where = Annotated[
    str, typer.Option("--database", help="A file (SQLite), or a postgresql:// URL.", envvar="SCOREMUX_REVIEW_DATABASE")
]
console = Console(stderr=True, markup=False)

users = typer.Typer(
    no_args_is_help=True,
    help="People who sign in to the desk.",
    epilog="Example: scoremux review users add anna --role rater --database reviews.db",
)
pools = typer.Typer(
    no_args_is_help=True,
    help="Raters who share tasks and quotas.",
    epilog="Example: scoremux review pools set biology --tasks 'bio-* 200' --member anna --database reviews.db",
)


def say(line: str) -> None:
    """Print a line to standard error."""
    console.print(printable(line), soft_wrap=True, highlight=False)


def opened(name: str) -> Database:
    """Open a database."""
    from scoremux_review.database.connection import Database

    return Database(name)


@users.command("add")
def add_user(
    name: str,
    database: Where,
    role: Annotated[str, typer.Option(help="rater, leader or director.")] = "rater",
    elsewhere: Annotated[
        bool, typer.Option("--elsewhere", help="They sign in at --oidc-issuer, without a password.")
    ] = False,
) -> None:
    """Add a person; the password is asked for, or read from standard input.

    Example: scoremux review users add anna --role rater --database reviews.db
    """
    from scoremux_review.database import accounts

    accounts.add_person(opened(database), name, role, None if elsewhere else _password(), BY)
    say(f"added: {name}, {role}")


@users.command("change")
def change_user(
    name: str,
    database: Where,
    role: Annotated[str | None, typer.Option(help="rater, leader or director.")] = None,
    active: Annotated[bool | None, typer.Option("--open/--close", help="Open or close the account.")] = None,
    password: Annotated[bool, typer.Option("--password", help="Ask for a new password.")] = False,
    unlock: Annotated[bool, typer.Option("--unlock", help="Forget failed sign-ins.")] = False,
    leader: Annotated[
        str | None, typer.Option("--leader", help="The only leader who sees this rater; an empty word for all leaders.")
    ] = None,
) -> None:
    """Change someone's role or password, or close the account: they are signed out. Or lift a lockout, name a leader.

    Example: scoremux review users change anna --role leader --database reviews.db
    """
    from scoremux_review.database import accounts

    desk = opened(database)
    if unlock:
        accounts.lift_lockout(desk, name, BY)
    if leader is not None:
        with desk.write() as connection:
            accounts.set_leader(connection, name, leader, BY, desk.now())
    if role or active is not None or password or not (unlock or leader is not None):
        accounts.change_person(desk, name, BY, role, active, _password() if password else None)


@users.command("list")
def list_users(database: Where) -> None:
    """List the people.

    Example: scoremux review users list --database reviews.db
    """
    from scoremux_review.database import accounts

    with opened(database).read() as connection:
        people = accounts.listed(connection)
    names = {person.id: person.name for person in people}
    rows = [(p.name, p.role, "open" if p.active else "closed", names.get(p.leader, "")) for p in people]
    print_table(Console(highlight=False), ("name", "role", "account", "leader"), rows)


@pools.command("set")
def set_pool(
    name: str,
    database: Where,
    tasks: Annotated[
        list[str] | None,
        typer.Option("--tasks", help="A task or a pattern, and a quota of each member if there is one."),
    ] = None,
    member: Annotated[list[str] | None, typer.Option("--member", help="A person's name; may be given again.")] = None,
) -> None:
    """Add or replace a pool: whose responses its members read, and who they are.

    A pool with neither tasks nor members is removed.

    Example: scoremux review pools set biology --tasks 'bio-* 200' --tasks chem-1 --member anna --database reviews.db
    """
    from scoremux_review.reading.supervision import change_pool

    desk = opened(database)
    with desk.write() as connection:
        change_pool(connection, BY, name, "\n".join(tasks or ()), member or (), (), desk.now())
    say(f"{name}: {len(tasks or ()):,} assignments, {len(member or ()):,} members")


@pools.command("list")
def list_pools(database: Where) -> None:
    """List the pools.

    Example: scoremux review pools list --database reviews.db
    """
    from scoremux_review.database import accounts, assignment_rows

    with opened(database).read() as connection:
        names = {person.id: person.name for person in accounts.listed(connection)}
        listed = assignment_rows.all_pools(connection)
    rows = [
        (pool.name, ", ".join(map(str, pool.assignments)), ", ".join(names[p] for p in pool.members)) for pool in listed
    ]
    print_table(Console(highlight=False), ("pool", "tasks", "members"), rows, fold=("tasks", "members"))


def _password() -> str:
    if sys.stdin.isatty():
        return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))
    return sys.stdin.readline().rstrip("\n")
