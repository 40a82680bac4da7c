"""`scoremux serve`: start Triton on a repository and stop it cleanly."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def serve(
    repository: Annotated[Path, typer.Option(help="Model repository with an exported backbone.")],
    store: Annotated[Path | None, typer.Option(help="Folder of task packages (default: REPOSITORY/store).")] = None,
    grpc_port: Annotated[int | None, typer.Option(help="gRPC port on 127.0.0.1 (default: a free one).")] = None,
    http_port: Annotated[int | None, typer.Option(help="HTTP port on 127.0.0.1 (default: a free one).")] = None,
    metrics_port: Annotated[
        int | None, typer.Option(help="Prometheus port on 127.0.0.1 (default: a free one).")
    ] = None,
    runner: Annotated[str, typer.Option(help="What computes: onnxruntime or openvino.")] = "onnxruntime",
    device: Annotated[str, typer.Option(help="With onnxruntime: cpu, cuda or tensorrt.")] = "cpu",
    precision: Annotated[str, typer.Option(help="float32; with openvino also bfloat16, int8, auto.")] = "float32",
    backend: Annotated[
        str | None,
        typer.Option(help="Serve the backbone as a Triton model of its own: onnxruntime, tensorrt or python."),
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of the runner (default: all cores).")] = None,
    log: Annotated[Path | None, typer.Option(help="Triton's log (default: REPOSITORY/logs/triton.log).")] = None,
) -> None:
    """Serve a repository until SIGINT or SIGTERM."""
    from scoremux_engine.runners.choose import RunnerChoice
    from scoremux_server.endpoints import Endpoints
    from scoremux_server.errors import StartError
    from scoremux_server.server import Server

    console = Console(highlight=False)
    for number in _STOPPING:
        signal.signal(number, _interrupt)
    endpoints = Endpoints.choose(grpc_port, http_port, metrics_port)
    choice = RunnerChoice(name=runner, device=device, precision=precision, threads=threads)
    server = Server(repository, endpoints, store=store, log=log, runner=choice, backend=backend)
    console.print("starting Triton")
    try:
        with server:
            console.print(f"gRPC     {endpoints.grpc_url}")
            console.print(f"HTTP     {endpoints.http_url}")
            console.print(f"metrics  {endpoints.metrics_url}")
            console.print(f"log      {server.log}", soft_wrap=True)
            console.print("ready; Ctrl-C stops")
            status = server.wait()
        raise StartError(f"Triton ended by itself with status {status}; see {server.log}")
    except KeyboardInterrupt:
        console.print("stopped")


def _interrupt(_signal: int, _frame: object) -> None:
    # A second signal must not cut the clean-up short.
    for number in _STOPPING:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt
