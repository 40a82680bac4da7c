"""Files of earlier releases (folders beside this file, by `make_files.py`) are opened by today's code, without a loss.

A release's folder is never written again. A command that refuses one of its files says in one sentence what to run.
"""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import postgres
from apis import api_process
from making import ROOT
from scoremux_engine.engine import Engine
from scoremux_files.rows.readers import read_rows
from serving import SCOREMUX, run_here, serving
from waiting import until

RELEASES = sorted(path.parent for path in Path(__file__).parent.glob("*/expected.json"))


@pytest.fixture(params=RELEASES, ids=lambda path: str(path.name))
def release(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A copy of a release's files, as the working directory."""
    folder = Path(shutil.copytree(request.param, tmp_path / "release"))
    before = Path.cwd()
    os.chdir(folder)
    yield folder
    os.chdir(before)


def expected(folder: Path) -> Any:
    return json.loads((folder / "expected.json").read_text())


def run(*words: str, status: int = 0, stdin: str = "") -> str:
    ended = run_here(*words, stdin=stdin)
    assert ended.returncode == status, ended.stderr or ended.stdout
    return ended.stdout


def score_again(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Scores keep their bits, or the name of their arithmetic has changed."""
    texts = {row["id"]: row["text"] for row in read_rows(folder / "labelled.csv")}
    engine = Engine.open(folder / "repository")
    scored = engine.score([texts[row["id"]] for row in rows], [row["task"] for row in rows])
    assert [(s.level, s.route) for s in scored] == [(row["level"], row["route"]) for row in rows]
    for row, s in zip(rows, scored, strict=True):
        bits = np.float32(s.probabilities).tobytes() == np.float32(row["probabilities"]).tobytes()
        assert bits or s.arithmetic != row["arithmetic"]


def test_repository_scores_with_the_same_bits_and_takes_changes(release: Path) -> None:
    rows = expected(release)["rows"]
    score_again(release, rows)
    run("tasks", "verify", "--store", "repository/store")
    assert "5 changes" in run("tasks", "history", "--store", "repository/store")
    run("tasks", "release", "tree", "--by", "A. Lopez", "--store", "repository/store")
    routes = {row["task"] for row in rows if row["route"] == "human:HELD"}
    assert routes == {"tree"}
    engine = Engine.open(release / "repository")
    assert engine.score(["the answer is wrong"], ["tree"])[0].route != "human:HELD"
    run("tasks", "add", "adapters/bridge", "--store", "repository/store")


@pytest.mark.usefixtures("release")
def test_tasks_are_calibrated_again_from_predictions_of_before() -> None:
    words = ("calibrate", "labelled.csv", "--repository", "repository", "--policy", "policy.toml")
    run(*words, "--predictions", "adapters/predictions.parquet")
    run("tasks", "verify", "--store", "repository/store")


def test_finished_work_is_read(release: Path) -> None:
    run("evaluate", "job", "--truth", "labelled.csv")
    run("report", "job", "--truth", "labelled.csv", "--out", "report.html")
    run("review", "add", "job", "--database", "new.db", "--responses", "labelled.csv", "--tasks", "repository/store")
    assert len(final("new.db")) == len(expected(release)["rows"])
    run("review", "verify", "--database", "desk.db")
    assert sorted_rows(final("desk.db")) == sorted_rows(expected(release)["desk"])


@pytest.mark.nightly
def test_training_resumes_or_is_refused(release: Path) -> None:
    (release / "long.toml").write_text("folds = 2\n[recipe]\nepochs = 400\nrank = 4\n")
    words = ("train", "labelled.csv", "--backbone", "model", "--out", "training", "--config", "long.toml")
    ended = run_here(*words)
    assert ended.returncode == 0 or (ended.returncode == 2 and "remove training" in ended.stderr), ended.stderr


@pytest.mark.skipif(postgres.programs() is None, reason="PostgreSQL is not installed")
def test_desk_in_postgresql_has_every_response_and_decision(release: Path) -> None:
    with postgres.running() as name:
        postgres.load(name, release / "desk.sql")
        run("review", "verify", "--database", name)
        counts = Counter((row["task"], row["decided_by"]) for row in final(name))
    assert counts["tree", "rater"] == 2
    assert sum(counts.values()) == len(expected(release)["rows"])


@pytest.mark.nightly
def test_audit_log_is_replayed_and_jobs_and_api_go_on(release: Path) -> None:
    log = shutil.copy(release / "audit.jsonl", release / "before.jsonl")
    # A part that the journal does not name yet is scored again.
    done = len((release / "job-unfinished/_journal.jsonl").read_text().splitlines()) - 1
    parts = {path: path.read_bytes() for path in sorted(release.glob("job-unfinished/part-*.parquet"))[:done]}
    assert done == 3
    with serving(release / "repository", release) as server:
        url = server.endpoints.grpc_url
        replay = [sys.executable, ROOT / "examples/replay.py", log, "labelled.csv", "many.csv", "--url", url]
        replayed = subprocess.run(replay, capture_output=True, text=True)
        found = dict(reversed(line.split(" rows: ")) for line in replayed.stdout.splitlines())
        assert "differs" not in found and sum(int(count.replace(",", "")) for count in found.values()) > 40, replayed
        kept = ("--keep", "administration", "--keep", "school", "--column", "student=student")
        run("score", "many.csv", "--out", "job-unfinished", "--url", url, "--part-rows", "64", *kept, status=0)
        assert all(path.read_bytes() == before for path, before in parts.items())
        rows = sum(pq.read_metadata(path).num_rows for path in release.glob("job-unfinished/part-*.parquet"))
        assert rows == sum(1 for _ in read_rows(release / "many.csv"))
        go_on(release, url)


def go_on(release: Path, url: str) -> None:
    """What waits is kept in a file, and the feed has the decisions that webhooks were to tell."""
    (release / "desk.db").rename(release / "reviews.db")
    opened = subprocess.run([SCOREMUX, "review", "verify", "--database", "reviews.db"], capture_output=True, text=True)
    [kept] = release.glob("reviews.db.removed-*.jsonl")
    assert opened.returncode == 0 and kept.name in opened.stderr, opened.stderr
    lines = [json.loads(line) for line in kept.read_text().splitlines()]
    waited = [json.loads(line["body"]) for line in lines if line["table"] == "deliveries"]
    assert [line["table"] for line in lines if line["table"] != "deliveries"] == ["batches"]
    with api_process(release, "--url", url) as (http, _):
        changes = http.get("/v1/changes").json()["changes"]
        told = [(event["data"]["id"], event["data"]["level"]) for event in waited if event["type"] == "row.final"]
        assert [(change["id"], change["level"]) for change in changes if change["type"] == "final"] == told
        assert http.get("/v1/webhooks").status_code == http.get("/v1/batches").status_code == 410
        row = {"id": "api-0", "task": "tree", "text": "the answer 0 is wrong"}
        assert http.post("/v1/score", json={"rows": [row]}).status_code == 200
        until(lambda: http.get("/v1/rows/tree/api-0").json()["state"] in ("pending", "final"), within_s=10)


def final(database: str) -> list[dict[str, Any]]:
    run("review", "export", "--out", "final.jsonl", "--database", database)
    rows = list(read_rows(Path("final.jsonl")))
    Path("final.jsonl").unlink()
    return rows


def sorted_rows(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    names = ("id", "task", "status", "level", "decided_by", "administration")
    return sorted(tuple(str(row[name]) for name in names) for row in rows)
