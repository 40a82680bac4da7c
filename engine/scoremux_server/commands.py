"""`scoremux serve`: start Triton on a repository, watch and heal it, and stop it cleanly."""

from __future__ import annotations

import signal
import threading
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from scoremux_server.front_door.door import FrontDoor
    from scoremux_server.report import Report
    from scoremux_server.server import Server

_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def serve(
    repository: Annotated[Path, typer.Option(help="Model repository with an exported backbone.")],
    store: Annotated[Path | None, typer.Option(help="Folder of task packages (default: REPOSITORY/store).")] = None,
    profile: Annotated[
        str, typer.Option(help="cpu-reference, cpu, gpu-onnx, gpu-tensorrt, or FILE.toml.")
    ] = "cpu-reference",
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="key=value: change one key of the profile; repeatable.")
    ] = None,
    grpc_port: Annotated[int | None, typer.Option(help="As --set grpc_port=N.")] = None,
    http_port: Annotated[int | None, typer.Option(help="As --set http_port=N.")] = None,
    metrics_port: Annotated[int | None, typer.Option(help="As --set metrics_port=N.")] = None,
    watch_port: Annotated[int | None, typer.Option(help="As --set watch_port=N: /healthz and /readyz.")] = None,
    front_door: Annotated[
        Path | None, typer.Option(help="FILE.toml: also start HAProxy, with TLS and tokens, in front of this server.")
    ] = None,
    log: Annotated[Path | None, typer.Option(help="Triton's log (default: REPOSITORY/logs/triton.log).")] = None,
    print_config: Annotated[
        bool,
        typer.Option("--print-config", help="Print the rendered configurations and Triton's command line, and end."),
    ] = False,
) -> None:
    """Serve a repository until SIGINT or SIGTERM; rows in flight then finish."""
    from scoremux_server.endpoints import Endpoints
    from scoremux_server.installation import Installation
    from scoremux_server.profile import Profile
    from scoremux_server.report import Report
    from scoremux_server.run import remove_dead_runs
    from scoremux_server.server import Server

    ports = {"grpc_port": grpc_port, "http_port": http_port, "metrics_port": metrics_port, "watch_port": watch_port}
    given = [f"{key}={port}" for key, port in ports.items() if port is not None]
    chosen = Profile.read(profile, [*(settings or []), *given])
    if not print_config:
        remove_dead_runs()  # one of them may hold the ports that are wanted
    endpoints = Endpoints.choose(
        chosen.grpc_port,
        chosen.http_port,
        chosen.metrics_port,
        chosen.watch_port,
        address=chosen.address,
        watch_address=chosen.watch_address,
        metrics_address=chosen.metrics_address,
        checked=not print_config,
    )
    # What is printed may be for another machine.
    triton = Installation.find(chosen.triton, there=not print_config)
    key = _grant_key(chosen.grant_key_file, front_door)
    server = Server(repository, endpoints, store=store, log=log, profile=chosen, installation=triton, grant_key=key)
    report = Report()
    door = _door(front_door, repository, server, report, key)
    if print_config:
        from scoremux_server.rendered import rendered

        print(rendered(server))
        if door:
            print(door.rendered())
        return
    try:
        _serve(server, door, report)
    finally:
        report.end()


def stop_event() -> threading.Event:
    """Return an event that SIGINT, SIGTERM and SIGHUP set from now on, those left out that are ignored (nohup)."""
    stop = threading.Event()
    for number in _STOPPING:
        if signal.getsignal(number) is signal.SIG_IGN:
            continue
        # A second signal must not cut the clean-up short: it sets again what is set.
        signal.signal(number, lambda _number, _frame: stop.set())
    return stop


def _grant_key(key_file: str, door: Path | None) -> bytes | None:
    """Return the key of the grants that requests need; None where no front door sets any."""
    from scoremux_engine.scoring.permission import read_key
    from scoremux_server.errors import SetupError

    if door is None:
        return read_key(Path(key_file)) if key_file else None
    if key_file:
        raise SetupError("grant_key_file is for a front door on another machine: set grant_key in door.toml instead")
    from scoremux_server.front_door.config import FrontDoorConfig
    from scoremux_server.front_door.files import grant_key

    return grant_key(FrontDoorConfig.read(door))


def _door(file: Path | None, repository: Path, server: Server, report: Report, key: bytes | None) -> FrontDoor | None:
    if file is None:
        return None
    from scoremux_server.errors import SetupError
    from scoremux_server.front_door.config import I_KNOW, Backend
    from scoremux_server.front_door.door import FrontDoor
    from scoremux_server.installation import SAFE_RELEASE
    from scoremux_server.log_file import keeps

    own = Backend.of(server.endpoints)
    log = (server.log.parent if keeps(server.log) else repository / "logs") / "haproxy.log"
    door = FrontDoor(file, log, own, report, key)
    if door.config.is_open and not door.config.i_know and not server.installation.is_safe:
        newer = f"{SAFE_RELEASE[0]}.{SAFE_RELEASE[1]:02}"
        raise SetupError(
            f"{file}: address is {door.config.address}: a front door that other machines reach needs Triton {newer} or "
            f"newer behind it, and this is {server.installation.name}. In a closed network, say i_know = {I_KNOW!r}"
        )
    return door


def _serve(server: Server, door: FrontDoor | None, report: Report) -> None:
    from scoremux_server.health_endpoint import HealthEndpoint
    from scoremux_server.watcher import Watcher

    stop = stop_event()
    endpoints = server.endpoints

    def ready() -> None:
        report(f"gRPC     {endpoints.grpc_url}")
        report(f"HTTP     {endpoints.http_url}")
        report(f"metrics  {endpoints.metrics_url}")
        report(f"health   {endpoints.watch_url}/readyz")
        if door:
            report(f"door     {door.url}")
        report(f"log      {server.log}")
        report("ready; Ctrl-C stops")

    watcher = Watcher(server, report)
    report(f"starting {server.installation.name}")
    # The door closes last: rows that finish while Triton stops go out through it.
    with (
        door or nullcontext(),
        HealthEndpoint(watcher.health, endpoints.watch_address, endpoints.watch, server.health_headers),
    ):
        watcher.run(stop, ready)
    report("stopped")
