"""Write what a release leaves on disk, for the tests of later releases.

    python tests/upgrade/make_files.py tests/upgrade/0.1

Only the commands of the release and its HTTP endpoints write these files, so that any release can run this script. The
script takes about two minutes, and writes less than 2 MiB:

| file | what wrote it |
|---|---|
| `repository/` | `export backbone`, `tasks add`, `calibrate`, `tasks hold`; with `profile.toml` |
| `model/`, `labelled.csv`, `policy.toml`, `train.toml` | this script |
| `adapters/` | `train` |
| `training/` | `train`, killed before its end |
| `job/`, `job-unfinished/` | `score`: finished, and killed before its end |
| `desk.db` | `review add`, decisions at the desk, rows by `api` |
| `desk.sql` | the desk's database in PostgreSQL, as pg_dump writes it; only where PostgreSQL is installed |
| `tokens.json`, `grant.key` | `tokens add` |
| `audit.jsonl` | `serve` with an audit log |
| `expected.json` | what the release answered |
"""

from __future__ import annotations

import csv
import json
import os
import random
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
import postgres
from making import WORDS, make_encoder

SCOREMUX = str(Path(sys.executable).with_name("scoremux"))
TASKS = {"bridge": 3, "tree": 2}
"""Task → number of levels."""

PASSWORD = "a long password"
KEY = "a secret of more than sixteen bytes"
ROWS_A_TASK, UNFINISHED_ROWS = 60, 6_000
_TRAIN = "folds = 2\n[recipe]\nepochs = 60\nrank = 4\n"
_LONG_TRAIN = "folds = 2\n[recipe]\nepochs = 400\nrank = 4\n"
_PROFILE = 'precision = "float32"\nuncalibrated = "human"\naudit_log = "audit.jsonl"\n'
_POLICY = """
[target]
confidence = 0.8
exact = 0.4

[rows]
own = 30
new = 10

[conditions.blank]
action = "code"
"""


def main(out: Path) -> None:
    """Write all files below `out`, which must not exist."""
    out.mkdir(parents=True)
    os.chdir(out)  # no file names a path of this machine
    write_data()
    make_encoder(Path("model"), layers=1, width=16, max_tokens=32)
    run("train", "labelled.csv", "--backbone", "model", "--out", "adapters", "--config", "train.toml")
    adapters = [str(Path("adapters") / task) for task in TASKS]
    run("export", "backbone", "model", "--for", *adapters, "--out", "repository")
    run("tasks", "add", *adapters, "--store", "repository/store")
    calibrated = ("--policy", "policy.toml", "--predictions", "adapters/predictions.parquet")
    run("calibrate", "labelled.csv", "--repository", "repository", *calibrated)
    run("tasks", "hold", "tree", "--by", "A. Lopez", "--store", "repository/store")
    Path("repository/profile.toml").write_text(_PROFILE)
    kill_training()
    with server() as url:
        answered = score_files(url)
        desk(url)
    shutil.rmtree("repository/logs", ignore_errors=True)
    release = subprocess.run([SCOREMUX, "--version"], check=True, capture_output=True, text=True).stdout.strip()
    expected = {"version": release, "rows": answered, "desk": desk_rows(Path("desk.db"))}
    Path("expected.json").write_text(json.dumps(expected, indent=1) + "\n")
    with sqlite3.connect("desk.db") as database:
        database.execute("pragma wal_checkpoint(truncate)")
    for pattern in ("**/*.lock", "desk.db-*", ".scored*", "long.toml"):
        for left in Path().glob(pattern):
            left.unlink()


def write_data() -> None:
    """Write labelled rows, a policy, a plan of training, and rows to score."""
    draw = random.Random(61)
    rows = []
    for task, levels in TASKS.items():
        for number in range(ROWS_A_TASK):
            level = number % levels
            words = draw.choices(WORDS[:-4], k=draw.randrange(3, 9)) + [("wrong", "answer", "right")[level]] * 2
            rows.append((f"{task}-{number}", task, " ".join(words), level, f"s{number}", "spring", "ab"[number % 2]))
    with Path("labelled.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("id", "task", "text", "level", "student", "administration", "school"))
        writer.writerows(rows)
    Path("train.toml").write_text(_TRAIN)
    Path("policy.toml").write_text(_POLICY)
    Path("read-behind.key").write_text(KEY)


def run(*words: str, text: str = "") -> str:
    """Run a command to its end; return what it printed."""
    ended = subprocess.run([SCOREMUX, *words], input=text, capture_output=True, text=True)
    if ended.returncode:
        sys.exit(f"scoremux {' '.join(words)}: {ended.stderr or ended.stdout}")
    return ended.stdout


@contextmanager
def running(*words: str, ready: Callable[[], bool], end: int = signal.SIGTERM) -> Iterator[None]:
    """Run a command while the block runs; it begins when `ready` returns true."""
    process = subprocess.Popen([SCOREMUX, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait(lambda: ready() or process.poll() is not None)
        if process.poll() is not None:
            sys.exit(f"scoremux {' '.join(words)} ended with {process.returncode}")
        yield
    finally:
        process.send_signal(end)
        process.wait(120)


def wait(done: Callable[[], bool], within_s: float = 120.0) -> None:
    until = time.monotonic() + within_s
    while not done():
        if time.monotonic() > until:
            sys.exit("what this script waits for did not happen")
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def kill_training() -> None:
    """Train into `training/`, and kill the command after its first checkpoint."""
    Path("long.toml").write_text(_LONG_TRAIN)
    words = ("train", "labelled.csv", "--backbone", "model", "--out", "training", "--config", "long.toml")
    with running(*words, ready=lambda: any(Path("training").rglob("*.safetensors")), end=signal.SIGKILL):
        pass


@contextmanager
def server() -> Iterator[str]:
    """Serve the repository; give the address of its gRPC port."""
    grpc, watch = free_port(), free_port()
    ports = {"grpc": grpc, "http": free_port(), "metrics": free_port(), "watch": watch}
    settings = [word for name, port in ports.items() for word in ("--set", f"{name}_port={port}")]
    words = ("serve", "--repository", "repository", *settings)
    with running(*words, ready=lambda: answers(f"http://127.0.0.1:{watch}/readyz")):
        yield f"localhost:{grpc}"


def score_files(url: str) -> list[dict[str, Any]]:
    """Run one job to its end, kill another one; return the finished job's rows."""
    kept = ("--keep", "administration", "--keep", "school", "--column", "student=student")
    run("score", "labelled.csv", "--out", "job", "--url", url, *kept)
    run("score", "labelled.csv", "--out", "scored.jsonl", "--url", url, *kept)
    rows = [json.loads(line) for line in Path("scored.jsonl").read_text().splitlines()]
    Path("scored.jsonl").unlink()
    with Path("labelled.csv").open(encoding="utf-8") as file:
        header, *lines = file.read().splitlines()
    many = [f"{n}-{line}" for n in range(UNFINISHED_ROWS // len(lines)) for line in lines]
    Path("many.csv").write_text("\n".join([header, *many]) + "\n")
    words = ("score", "many.csv", "--out", "job-unfinished", "--url", url, "--part-rows", "64", *kept)
    with running(*words, ready=lambda: len(list(Path().glob("job-unfinished/part-*.parquet"))) > 2, end=signal.SIGKILL):
        pass
    names = ("id", "task", "level", "probabilities", "route", "arithmetic")
    return [{name: row[name] for name in names} for row in rows]


def desk(url: str) -> None:
    """Make the desk's database: scored rows, people, decisions; then rows of the API."""
    add_to_desk("desk.db")
    decide("desk.db")
    through_api(url)
    if postgres.programs():
        dump_postgres()


def add_to_desk(database: str) -> None:
    run("review", "add", "job", "--database", database, "--responses", "labelled.csv", "--tasks", "repository/store")
    for name, role in (("anna", "rater"), ("dana", "director")):
        run("review", "users", "add", name, "--role", role, "--database", database, text=f"{PASSWORD}\n{PASSWORD}\n")


def decide(database: str, number: int = 2) -> None:
    """Sign in at the desk as a rater, and give the first responses level 1."""
    port = free_port()
    site = f"http://127.0.0.1:{port}"
    words = ("review", "open", "--database", database, "--port", str(port))
    with (
        running(*words, ready=lambda: answers(f"{site}/login")),
        httpx.Client(base_url=site, headers={"Origin": site}, follow_redirects=True, timeout=30) as http,
    ):
        page = http.get("/login").text
        page = http.post("/login", data={"name": "anna", "password": PASSWORD, **hidden(page)}).text
        for _ in range(number):
            page = http.post("/start", data={"task": "tree", **hidden(page)}).text
            time.sleep(2)  # the desk refuses a decision that nobody can have read for
            page = http.post("/decide", data={"level": "1", **hidden(page)}).text


def hidden(page: str) -> dict[str, str]:
    """Return the hidden fields of a page's forms."""
    return dict(re.findall(r'name="(form_key|token|key)" value="([^"]*)"', page))


def through_api(url: str) -> None:
    """Send rows that people decide."""
    port = free_port()
    run("tokens", "add", "platform", "--tokens", "tokens.json", "--tasks", "*")
    site = f"http://127.0.0.1:{port}"
    options = ("--database", "desk.db", "--url", url, "--port", str(port))
    rows = [{"id": f"api-{n}", "task": "tree", "text": f"the answer {n} is wrong"} for n in range(2)]
    with (
        running("api", *options, ready=lambda: answers(f"{site}/readyz")),
        httpx.Client(base_url=site, timeout=60) as http,
    ):
        http.post("/v1/score", json={"rows": rows}).raise_for_status()
    decide("desk.db")


def desk_rows(database: Path) -> list[dict[str, Any]]:
    """Return what `review export` writes of all responses, without times."""
    run("review", "export", "--out", "final.jsonl", "--database", str(database))
    rows = [json.loads(line) for line in Path("final.jsonl").read_text().splitlines()]
    Path("final.jsonl").unlink()
    names = ("id", "task", "status", "level", "decided_by", "administration")
    return [{name: row[name] for name in names} for row in rows]


def dump_postgres() -> None:
    """Write the desk's database as PostgreSQL has it: scored rows and decisions."""
    with postgres.running() as name:
        add_to_desk(name)
        decide(name)
        dump = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_dump"))[-1]
        written = subprocess.run([dump, "--no-owner", name], check=True, capture_output=True, text=True)
        Path("desk.sql").write_text(written.stdout)


if __name__ == "__main__":
    words: Sequence[str] = sys.argv[1:]
    if len(words) != 1:
        sys.exit(__doc__)
    main(Path(words[0]).resolve())
