"""`scoremux api`: JSON over HTTP for platforms."""

from __future__ import annotations

import socket
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from scoremux_desk.people_commands import Where, created, say
from scoremux_files import InputError, first_of, read_key, release
from scoremux_files.terminal import takes

if TYPE_CHECKING:
    from scoremux_desk.api.callers import Callers
    from scoremux_desk.api.services import Services
    from scoremux_desk.api.triton_scorer import TritonScorer

_NAMED = 3
_GRANT_KEY_BYTES = 32
"""Shortest key that the front door signs grants with."""
_KEPT_S = 75
"""Longer than HAProxy keeps a connection that nothing goes over."""
_GRACE_S = 10
"""How long requests may take to end when the API stops: a client may never read its answer."""


@dataclass(frozen=True)
class ApiOptions:
    """The options of `scoremux api`."""

    database: Where
    url: Annotated[list[str] | None, Option(help="HOST:PORT of Triton's gRPC; may be repeated.")] = None
    tasks: Annotated[
        Path | None, Option(help="Store, for the questions, points and policies of tasks; the desk gets them, too.")
    ] = None
    grant_key: Annotated[
        Path | None, Option(help="The front door's file of this name. Without it, callers need no token.")
    ] = None
    tokens: Annotated[Path | None, Option(help="The front door's file of tokens: a revoked token gets no changes.")] = (
        None
    )
    port: Annotated[int, Option(min=1, max=65535, help="Port on 127.0.0.1 that the API listens on.")] = 8005
    read_behind: Annotated[str, Option(metavar="SHARE|FILE", help="As for `scoremux score`; needs --key-file.")] = ""
    key_file: Annotated[Path | None, Option(help="File with a secret of 16 bytes or more.")] = None
    alert: Annotated[str | None, Option(metavar="TASK:THRESHOLD", help="As for `scoremux score`.")] = None
    keep_days: Annotated[
        int | None, Option(min=1, help="Days for which settled rows are kept (default: for ever).")
    ] = None
    sandbox: Annotated[
        bool, Option("--sandbox", help="Need no Triton: ids choose the outcome, for a platform's own tests.")
    ] = False


@takes(ApiOptions)
def api(options: ApiOptions) -> None:
    """Offer scores and the decisions of people as plain JSON.

    Example: scoremux api --url localhost:8001 --database reviews.db
    """
    from scoremux_client import connect
    from scoremux_client.audit_lines import KEEP_LOGS, LEAST_DAYS
    from scoremux_client.contract import GRANT_HEADER
    from scoremux_desk.api.callers import Callers
    from scoremux_desk.api.sandbox import SandboxScorer
    from scoremux_desk.api.services import Services
    from scoremux_desk.api.triton_scorer import TritonScorer
    from scoremux_desk.database import api_rows, programme
    from scoremux_desk.listening import take_port
    from scoremux_desk.reading.task_files import read_items

    urls = options.url or []
    settings = _settings(options)
    if options.sandbox == bool(urls):
        raise InputError("give --url, the address of Triton, or --sandbox, which needs none")
    headers = {GRANT_HEADER: ""} if options.grant_key else {}
    transports = [connect(url, None, headers, insecure=None) for url in urls]
    callers = Callers(read_key(options.grant_key, _GRANT_KEY_BYTES) if options.grant_key else None, options.tokens)
    with (
        closing(take_port("127.0.0.1", options.port)) as taken,
        created(options.database) as database,
        closing(database),
        closing(TritonScorer(transports) if transports else SandboxScorer(database)) as scorer,
    ):
        with database.write() as connection:
            if not api_rows.is_for(connection, sandbox=options.sandbox, is_new=database.is_new):
                wants = "the sandbox decides rows: give it" if options.sandbox else "--sandbox made this database: give"
                raise InputError(f"{wants} a --database of its own, such as a new file")
        if options.tasks:
            with database.write() as connection:
                programme.save_items(connection, read_items(options.tasks), "scoremux api")
        if not options.sandbox:
            _say_who_decides(scorer, callers)
        if options.keep_days and options.keep_days < LEAST_DAYS:
            say(f"rows are erased after {options.keep_days} days: {KEEP_LOGS}")
        _raise_descriptors()
        _serve(Services(database, scorer, callers, **settings), taken)


def _settings(options: ApiOptions) -> dict[str, Any]:
    """Return the checked options of `Services`. Raises InputError, SetupError."""
    from scoremux_batch.jobs import ForPeople
    from scoremux_server.front_door.access_tokens import AccessTokenFile

    if (options.grant_key is None) != (options.tokens is None):
        raise InputError("--grant-key and --tokens belong together: give both files of the front door, or none")
    if options.tokens:
        AccessTokenFile(options.tokens).read()  # a damaged file is refused now, not by a request
    if options.tasks and not (options.tasks / "manifest.json").is_file():
        raise InputError(
            f"--tasks {options.tasks} is no store: give the folder that has manifest.json, such as REPO/store"
        )
    return {
        "tasks": options.tasks,
        "keep_days": options.keep_days,
        "people": ForPeople.read(options.read_behind, options.key_file, options.alert),
    }


def _say_who_decides(scorer: TritonScorer, callers: Callers) -> None:
    """Say whether the scoring server answers, and which tasks it leaves to the machine without a calibration.

    Raises InputError where the server refuses the API's grants.
    """
    from scoremux_client import TransportError

    try:
        undecided = scorer.uncalibrated(callers.operator())
    except TransportError as error:
        if "grant" in str(error):
            raise InputError(f"{error}; --grant-key must be the server's grant_key_file") from error
        say(f"no scores yet: {error}; rows get 503 until the server of --url answers")
        return
    if undecided:
        say(f"{first_of(undecided, _NAMED)}: the machine decides, without a calibration (`scoremux calibrate`)")


def _raise_descriptors() -> None:
    """Let this process have as many files and connections open as its user may."""
    import resource

    with suppress(OSError, ValueError):
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _serve(services: Services, taken: socket.socket) -> None:
    from scoremux_desk.api.api_app import create_app
    from scoremux_desk.listening import AnnouncedServer

    wait = {"timeout_keep_alive": _KEPT_S, "timeout_graceful_shutdown": _GRACE_S}
    line = f"{release()}; the API is open: http://127.0.0.1:{taken.getsockname()[1]}"
    server = AnnouncedServer(create_app(services), taken, line, services.followers.stop, **wait)
    server.serve_until_stopped()
    if not server.started:
        raise InputError("the API could not start; the lines above say why")
