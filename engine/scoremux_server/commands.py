"""`scoremux serve`: start Triton on a repository, watch it, restart it when it fails, and stop it cleanly."""

from __future__ import annotations

import shlex
import signal
import tempfile
import threading
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from scoremux_server.front_door.door import FrontDoor
    from scoremux_server.triton.server import Server
    from scoremux_server.watch.console import Report

_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def serve(
    repository: Annotated[
        Path, typer.Option(help="Repository with an exported backbone, or with --adapters a new folder.")
    ],
    adapters: Annotated[
        list[Path] | None,
        typer.Option(
            help="PEFT adapters, or folders of them: first export the backbone if REPOSITORY has none, and publish the "
            "adapters that are new.",
            metavar="DIR…",
        ),
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            help="With --adapters: folder or hub id with the weights of their base model (default: what they name).",
            metavar="MODEL",
        ),
    ] = None,
    tasks: Annotated[
        Path | None, typer.Option(help="With --adapters: CSV file of tasks, as for `scoremux tasks add`.")
    ] = None,
    store: Annotated[Path | None, typer.Option(help="Folder of task packages (default: REPOSITORY/store).")] = None,
    profile: Annotated[
        str | None,
        typer.Option(
            help="cpu-reference, cpu, gpu-onnx, gpu-tensorrt, or FILE.toml "
            "(default: REPOSITORY/profile.toml if it exists, else cpu-reference)."
        ),
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="key=value: change one key of the profile; repeatable.")
    ] = None,
    grpc_port: Annotated[int | None, typer.Option(help="Triton's gRPC port (default: 8001; 0: any free one).")] = None,
    http_port: Annotated[int | None, typer.Option(help="Triton's HTTP port (default: 8000).")] = None,
    metrics_port: Annotated[int | None, typer.Option(help="Triton's metrics port (default: 8002).")] = None,
    watch_port: Annotated[
        int | None, typer.Option(help="The watcher's port, for /healthz, /readyz and /metrics (default: 8003).")
    ] = None,
    front_door: Annotated[
        Path | None, typer.Option(help="FILE.toml: also start HAProxy, with TLS and tokens, in front of this server.")
    ] = None,
    log: Annotated[
        Path | None,
        typer.Option(help="Append Triton's log here (default: REPOSITORY/logs/triton.log); /dev/stderr is possible."),
    ] = None,
    print_config: Annotated[
        bool,
        typer.Option("--print-config", help="Print the rendered configurations and Triton's command line, and end."),
    ] = False,
) -> None:
    """Serve a repository until SIGINT or SIGTERM; rows in flight then finish.

    Example: scoremux serve --repository repo --adapters adapters/* --profile cpu
    """
    from scoremux_server.errors import SetupError
    from scoremux_server.profile import Profile, default_profile
    from scoremux_server.triton.endpoints import Endpoints
    from scoremux_server.triton.installation import Installation
    from scoremux_server.triton.server import Server
    from scoremux_server.watch.console import Report

    if (backbone or tasks) and not adapters:
        raise SetupError("--backbone and --tasks say more about --adapters: give both, or neither")
    ports = {"grpc_port": grpc_port, "http_port": http_port, "metrics_port": metrics_port, "watch_port": watch_port}
    given = [f"{key}={port}" for key, port in ports.items() if port is not None]
    name = profile or default_profile(repository)
    chosen = Profile.read(name, [*(settings or []), *given])
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
    door = _door(front_door, server, report, key)
    if print_config:
        print(rendered(server))
        if door:
            print(door.rendered())
        return
    try:
        if adapters:
            from scoremux_server.triton.adapter_export import Adapters

            Adapters(adapters, repository, store or repository / "store", backbone, tasks).publish(report)
        report(f"profile  {name}")
        if chosen.selftest == "off":
            report("selftest off: nothing shows that this machine computes the same bits in every batch")
        _serve(server, door, report)
    finally:
        report.end()


def rendered(server: Server) -> str:
    """Return every config.pbtxt that a start would write, under its path, and tritonserver's command line."""
    from scoremux_server.triton.run_files import RUN

    with tempfile.TemporaryDirectory(prefix="scoremux-config-") as scratch:
        folder = Path(scratch)
        load, backends = server.prepare(folder)
        configs = sorted((folder / "models").glob("*/config.pbtxt"))
        parts = [f"# {path}\n{path.read_text(encoding='utf-8')}" for path in configs]
        words = server.arguments(folder, load, backends, key="KEY")  # a key is drawn anew for each start
        parts.append("# command line\n" + " \\\n  ".join(shlex.quote(word) for word in words))
        return "\n".join(parts).replace(scratch, RUN)


def stop_event() -> threading.Event:
    """Return an event that SIGINT, SIGTERM and SIGHUP set from now on, except those that are ignored (nohup)."""
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
    from scoremux_server.front_door.door_files import grant_key

    return grant_key(FrontDoorConfig.read(door))


def _door(file: Path | None, server: Server, report: Report, key: bytes | None) -> FrontDoor | None:
    if file is None:
        return None
    from scoremux_server.errors import SetupError
    from scoremux_server.front_door.config import I_KNOW, Backend
    from scoremux_server.front_door.door import FrontDoor
    from scoremux_server.triton.installation import SAFE_RELEASE

    own = Backend.of(server.endpoints)
    log = server.log if server.log.parent == Path("/dev") else server.log.parent / "haproxy.log"
    door = FrontDoor(file, log, own, report, key)
    if door.config.is_open and not door.config.i_know and not server.installation.is_safe:
        newer = f"{SAFE_RELEASE[0]}.{SAFE_RELEASE[1]:02}"
        raise SetupError(
            f"{file}: address is {door.config.address}: a front door that other machines reach needs Triton {newer} or "
            f"newer behind it, and this is {server.installation.name}. In a closed network, say i_know = {I_KNOW!r}"
        )
    return door


def _serve(server: Server, door: FrontDoor | None, report: Report) -> None:
    from scoremux_server.watch.health_endpoint import HealthEndpoint
    from scoremux_server.watch.watcher import Watcher

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
