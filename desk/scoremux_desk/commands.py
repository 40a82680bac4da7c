"""`scoremux review`: the review desk and its subcommands. Without one, it opens the desk on scored files."""

from __future__ import annotations

import os
import secrets
import socket
import tempfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option
from typer.core import TyperGroup

from scoremux_desk import people_commands, retention
from scoremux_desk.people_commands import BY, Where, console, created, opened, say
from scoremux_files import InputError

if TYPE_CHECKING:
    from scoremux_desk.database.connection import Database
    from scoremux_desk.pages.proxy import Networks
    from scoremux_desk.pages.visits import Desk


class _OpensByDefault(TyperGroup):
    """Takes `scoremux review SCORED…` for `scoremux review open SCORED…`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        opens = args and args[0].startswith("-") and args[0] != "--help"
        return super().parse_args(ctx, ["open", *args] if opens else args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        return super().resolve_command(ctx, args if not args or args[0] in self.commands else ["open", *args])


review = typer.Typer(
    cls=_OpensByDefault,
    no_args_is_help=True,
    help="Open the review desk, where people read responses and decide their scores.",
    epilog="Example: scoremux review scored --tasks REPO/store --database reviews.db",
)
_MOST_SHOWN = 10
_Scored = Annotated[list[Path] | None, Argument(help="What `scoremux score` wrote: folders of parts, or files.")]
_Tasks = Annotated[Path | None, Option(help="Store, or folder of task folders, for their texts.")]
_Policy = Annotated[Path | None, Option(help="TOML file with the table `review`.")]


@review.command("open")
def open_desk(
    database: Where,
    scored: _Scored = None,
    tasks: _Tasks = None,
    policy: _Policy = None,
    port: Annotated[int, Option(help="Where the desk listens.")] = 8080,
    address: Annotated[str, Option(help="Address on which the desk listens.")] = "127.0.0.1",
    public_url: Annotated[
        str | None, Option(help="How browsers reach the desk through a proxy, such as https://desk.example.org.")
    ] = None,
    user_header: Annotated[
        str, Option(help="Header in which a proxy names who is signed in there, such as X-Forwarded-Email.")
    ] = "",
) -> None:
    """Add scored files to a database, as `add` does, and open the desk on it.

    The word `open` may be left out.

    Example: scoremux review open scored --tasks REPO/store --database reviews.db
    """
    from scoremux_desk.listening import take_port
    from scoremux_desk.pages.proxy import read_proxies
    from scoremux_desk.pages.visits import Desk, check_addresses

    check_addresses(address, public_url, user_header)
    proxies = read_proxies(os.environ.get("FORWARDED_ALLOW_IPS", "127.0.0.1"))
    with closing(take_port(address, port)) as taken:
        add(database, scored, tasks=tasks, policy=policy)
        with closing(opened(database)) as desk:
            _first_director(desk)
            _serve(Desk(desk, public_url, address, user_header), taken, proxies)


def _serve(desk: Desk, taken: socket.socket, proxies: Networks) -> None:
    """Serve the desk until it is stopped. Raises InputError if it cannot go on."""
    from scoremux_desk.listening import AnnouncedServer
    from scoremux_desk.pages.desk_app import create_app
    from scoremux_desk.pages.proxy import behind_proxies

    reasons: list[str] = []

    def stop(reason: str) -> None:
        reasons.append(reason)
        server.should_exit = True

    app: Any = create_app(replace(desk, stop=stop))
    app = behind_proxies(app, proxies, desk.user_header) if desk.public_url else app
    url = desk.public_url or f"http://{desk.address}:{taken.getsockname()[1]}"
    server = AnnouncedServer(app, taken, f"the desk is open: {url}", proxy_headers=False)
    server.serve_until_stopped()
    if reasons:
        raise InputError(f"the desk was closed: {reasons[0]}")


@review.command()
def add(
    database: Where,
    scored: _Scored = None,
    responses: Annotated[
        list[Path] | None, Option(help="The file that was scored; needed only for single files.")
    ] = None,
    tasks: _Tasks = None,
    policy: _Policy = None,
    validity: Annotated[Path | None, Option(help="Papers with a known level (task, text, level), slipped in.")] = None,
    qualification: Annotated[
        Path | None, Option(help="Papers with a known level that raters read before live work.")
    ] = None,
    anchors: Annotated[Path | None, Option(help="Papers shown beside the response (task, text, level, note).")] = None,
    column: Annotated[
        list[str] | None,
        Option(
            metavar="KEY=NAME",
            help="How --responses call the columns id, text and student, and which ones of SCORED exports keep (keep), "
            "if the job does not say it; repeatable.",
        ),
    ] = None,
) -> None:
    """Add scored files, papers, texts of tasks or a policy, also while people work.

    Example: scoremux review add scored-friday --database reviews.db
    """
    from scoremux_desk import additions

    with created(database) as desk:
        additions.add_programme(desk, policy, tasks, anchors)
        additions.add_papers(desk, validity=validity, qualification=qualification)
        for path in scored or ():
            additions.add_scored(desk, path, responses or (), column)


@review.command()
def verify(
    database: Where,
    noted: Annotated[
        str | None, Option(help="NUMBER:DIGEST that was printed earlier; it must be in the record.")
    ] = None,
) -> None:
    """Check the record's chain of digests, and the database against it. Note what it prints, outside the database.

    Example: scoremux review verify --database reviews.db
    """
    from scoremux_desk.database.verification import verify as verify_database

    number, _, digest = (noted or "").partition(":")
    if noted and (not number.isdecimal() or len(digest) != 64):
        raise InputError("--noted is NUMBER:DIGEST, as `scoremux review verify` prints it")
    with opened(database).read() as connection:
        last, newest = verify_database(connection, (int(number), digest) if noted else None)
    print(f"{last:,} entries, intact\n{last}:{newest}")


@review.command()
def export(
    database: Where,
    out: Annotated[Path | None, Option(help="Final scores: .parquet, .csv or .jsonl.")] = None,
    labelled: Annotated[Path | None, Option(help="Rows with human levels, for train, evaluate and calibrate.")] = None,
    papers: Annotated[Path | None, Option(help="What raters gave validity papers, for `scoremux watch`.")] = None,
    administration: Annotated[
        str, Option(help="Only the responses that a file or folder of this name brought (default: all).")
    ] = "",
) -> None:
    """Write final scores, labelled rows or readings of validity papers.

    Example: scoremux review export --out final.parquet --labelled labelled.parquet --database reviews.db
    """
    from scoremux_desk import exports

    if not (out or labelled or papers):
        raise InputError("nothing to write: give --out, --labelled or --papers")
    desk = opened(database)
    kinds = ((out, exports.export_final), (labelled, exports.export_labelled), (papers, exports.export_papers))
    for path, write in kinds:
        if path:
            say(f"{write(desk, path, administration):,} rows written to {path}")
    for line in exports.odd_rows(desk, _MOST_SHOWN):
        say(f"ODD: {line}")


review.add_typer(people_commands.users, name="users")
review.command()(retention.erase)
review.command()(retention.erasures)
review.command()(retention.backup)


def _first_director(desk: Database) -> None:
    from scoremux_desk.database import accounts

    with desk.read() as connection:
        if accounts.listed(connection):
            return
    password = secrets.token_urlsafe(12)
    accounts.add_person(desk, "director", "director", password, BY)
    if console.is_terminal:
        say(f"sign in as director with the password {password} (shown once)")
        return
    # Under systemd or in a container, what is printed is kept in a journal that many may read.
    handle, path = tempfile.mkstemp(prefix="director-", suffix=".password")
    with os.fdopen(handle, "w") as file:
        file.write(f"{password}\n")
    say(f"sign in as director; the password is in {path}, which this user alone can read: delete it then")
