"""Train, serve, score and report essays with six traits.

    python examples/essays/run.py FOLDER --backbone MODEL [--out OUT] [--epochs N]

FOLDER has `essays.jsonl`: a line for each essay with id, text, gender and points of each trait, such as the ELLIPSE
corpus. A fifth of the essays, drawn by their ids, is held out: the report is about them.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import httpx

ITEM = "essay-1"
TRAITS = ("cohesion", "syntax", "vocabulary", "phraseology", "grammar", "conventions")
COLUMNS = ("id", "task", "text", "gender", *TRAITS)
PORTS = {"grpc": 8301, "http": 8300, "metrics": 8302, "watch": 8303}
URL = f"localhost:{PORTS['grpc']}"
SCOREMUX = Path(sys.executable).with_name("scoremux")


def read_essays(folder: Path, fold: int = 0) -> dict[str, list[dict[str, object]]]:
    """Return the essays to train on and those held out, `test`: a hash of the id says which, and gives their order.

    fold: Which fifth is held out, 0 … 4.
    """
    lines = (folder / "essays.jsonl").read_text(encoding="utf-8").splitlines()
    parts: dict[str, list[dict[str, object]]] = {"train": [], "test": []}
    number = {line: int(hashlib.sha256(json.loads(line)["id"].encode()).hexdigest(), 16) for line in lines}
    for line in sorted(lines, key=lambda line: number[line]):
        parts["test" if number[line] % 5 == fold else "train"].append(json.loads(line))
    return parts


def write_data(folder: Path, out: Path) -> None:
    """Write `train.csv`, `test.csv` and `columns.toml`."""
    out.mkdir(parents=True, exist_ok=True)
    for part, rows in read_essays(folder).items():
        with (out / f"{part}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
            writer.writeheader()
            writer.writerows({**row, "task": ITEM} for row in rows)
    named = "".join(f'{trait} = "{trait}"\n' for trait in TRAITS)
    (out / "columns.toml").write_text(f'group = "gender"\n\n[traits]\n{named}', encoding="utf-8")


def add_total(adapter: Path) -> None:
    """Give the item the sum of its traits as its total."""
    file = adapter / "task.json"
    task = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**task, "total": {"sum": TRAITS}}, indent=1), encoding="utf-8")


def run(*words: object) -> None:
    """Run a command of scoremux. Raises CalledProcessError where it fails."""
    print("$ scoremux", *words, flush=True)
    started = time.monotonic()
    subprocess.run([SCOREMUX, *map(str, words)], check=True)
    print(f"[{time.monotonic() - started:.0f} s]\n", flush=True)


def ready(server: subprocess.Popen[bytes]) -> None:
    """Wait until the server scores. Raises SystemExit where it ends."""
    while True:
        try:
            if httpx.get(f"http://127.0.0.1:{PORTS['watch']}/readyz", timeout=5).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        if server.poll() is not None:
            raise SystemExit("the server has ended")
        time.sleep(0.2)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train, serve, score and report essays with six traits.")
    parser.add_argument("folder", type=Path, help="folder with essays.jsonl")
    parser.add_argument("--backbone", required=True, help="folder or hub id of the backbone")
    parser.add_argument("--out", type=Path, default=Path("essays"))
    parser.add_argument("--epochs", type=int, default=6)
    arguments = parser.parse_args()
    out = arguments.out
    write_data(arguments.folder, out)
    recipe = f"folds = 0\n\n[recipe]\nepochs = {arguments.epochs}\n"
    (out / "train.toml").write_text(recipe, encoding="utf-8")
    train = ("--backbone", arguments.backbone, "--config", out / "train.toml", "--out", out / "trained")
    run("train", out / "train.csv", *train)
    add_total(out / "trained" / ITEM)
    run("export", "backbone", arguments.backbone, "--for", out / "trained", "--out", out / "repo")
    run("tasks", "add", out / "trained" / ITEM, "--store", out / "repo/store")
    ports = [word for name, port in PORTS.items() for word in ("--set", f"{name}_port={port}")]
    serve = [SCOREMUX, "serve", "--repository", out / "repo", "--set", "uncalibrated=machine", *ports]
    with subprocess.Popen([str(word) for word in serve], env=os.environ) as server:
        try:
            ready(server)
            run("score", out / "test.csv", "--out", out / "scored", "--url", URL)
        finally:
            server.terminate()
    truth = ("--truth", out / "test.csv", "--tasks", out / "repo/store")
    run("evaluate", out / "scored", *truth)
    run("report", out / "scored", *truth, "--out", out / "report.html")


if __name__ == "__main__":
    main()
