"""`scoremux serve`: start Triton on a repository, watch and heal it, and stop it cleanly."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
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
    log: Annotated[Path | None, typer.Option(help="Triton's log (default: REPOSITORY/logs/triton.log).")] = None,
    print_config: Annotated[
        bool,
        typer.Option("--print-config", help="Print the rendered configurations and Triton's command line, and end."),
    ] = False,
) -> None:
    """Serve a repository until SIGINT or SIGTERM; rows in flight then finish."""
    from scoremux_server.endpoints import Endpoints
    from scoremux_server.profile import Profile
    from scoremux_server.run import remove_dead_runs
    from scoremux_server.server import Server

    ports = {"grpc_port": grpc_port, "http_port": http_port, "metrics_port": metrics_port, "watch_port": watch_port}
    given = [f"{key}={port}" for key, port in ports.items() if port is not None]
    chosen = Profile.read(profile, [*(settings or []), *given])
    remove_dead_runs()  # one of them may hold the ports that are wanted
    endpoints = Endpoints.choose(
        chosen.grpc_port,
        chosen.http_port,
        chosen.metrics_port,
        chosen.watch_port,
        address=chosen.address,
        watch_address=chosen.watch_address,
    )
    server = Server(repository, endpoints, store=store, log=log, profile=chosen)
    if print_config:
        from scoremux_server.rendered import rendered

        print(rendered(server))
        return
    _serve(server, Console(highlight=False))


def _serve(server: Server, console: Console) -> None:
    from scoremux_server.health import HealthEndpoint
    from scoremux_server.watcher import Watcher

    stop = threading.Event()
    for number in _STOPPING:
        # A second signal must not cut the clean-up short: it sets again what is set.
        signal.signal(number, lambda _number, _frame: stop.set())
    endpoints = server.endpoints

    def ready() -> None:
        console.print(f"gRPC     {endpoints.grpc_url}")
        console.print(f"HTTP     {endpoints.http_url}")
        console.print(f"metrics  {endpoints.metrics_url}")
        console.print(f"health   {endpoints.watch_url}/readyz")
        console.print(f"log      {server.log}", soft_wrap=True)
        console.print("ready; Ctrl-C stops")

    watcher = Watcher(server, lambda sentence: console.print(sentence, soft_wrap=True))
    console.print(f"starting {server.installation.name}")
    with HealthEndpoint(watcher.health, endpoints.watch_address, endpoints.watch):
        watcher.run(stop, ready)
    console.print("stopped")
