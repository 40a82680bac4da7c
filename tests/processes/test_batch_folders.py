"""A folder of batches belongs to one database: no other one deletes its results, and it may be moved and restored."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import delete

from apis import api_process, row
from peers import answer, listening
from scoremux_desk.database.connection import Database
from scoremux_desk.database.schema import IDENTITY, batches, settings
from serving import run_here
from waiting import until

BATCHES, ROWS = 5, 40


@pytest.fixture
def triton() -> Iterator[str]:
    with listening(answer) as url:
        yield url


def sent(client: httpx.Client, number: int, rows: int = ROWS) -> str:
    body = "".join(json.dumps(row(f"{number}-{n}", str(n % 4), "t")) + "\n" for n in range(rows))
    return str(client.post("/v1/batches", content=body).raise_for_status().json()["id"])


def status(client: httpx.Client, batch: str) -> str:
    return str(client.get(f"/v1/batches/{batch}").json()["status"])


def results(client: httpx.Client, batch: str) -> list[dict[str, Any]]:
    lines = client.get(f"/v1/batches/{batch}/results").raise_for_status().text.splitlines()
    return [json.loads(line) for line in lines]


def made(folder: Path, triton: str) -> list[str]:
    """Have some batches scored; return them. Their files are then two days old."""
    with api_process(folder, "--url", triton) as (client, _):
        ids = [sent(client, number) for number in range(BATCHES)]
        until(lambda: all(status(client, batch) == "completed" for batch in ids))
        until(lambda: not [*folder.rglob("body.jsonl")])
    for path in folder.rglob("batch_*"):
        os.utime(path, (path.stat().st_mtime - 2 * 86_400,) * 2)
    return ids


def restore(backup: Path, database: Path) -> None:
    for file in database.parent.glob(f"{database.name}*"):
        file.unlink()
    shutil.copy(backup, database)


@pytest.mark.parametrize("starts", [4, pytest.param(20, marks=pytest.mark.nightly)])
def test_no_other_database_deletes_results(tmp_path: Path, triton: str, starts: int) -> None:
    folder = tmp_path / "right"
    folder.mkdir()
    with api_process(folder, "--url", triton) as (client, _):
        until(lambda: client.get("/v1/batches").status_code == 200)
    empty = tmp_path / "backup.db"
    assert run_here("review", "backup", empty, "--database", folder / "reviews.db").returncode == 0
    ids = made(folder, triton)
    right = tmp_path / "right.db"
    assert run_here("review", "backup", right, "--database", folder / "reviews.db").returncode == 0
    other = tmp_path / "other"
    other.mkdir()
    with api_process(other, "--url", triton) as (client, _):
        sent(client, 9)
    for start in range(starts):
        kind = ("wrong", "restored", "second", "sandbox")[start % 4]
        if kind == "restored":  # it knows none of the batches
            restore(empty, folder / "reviews.db")
            with api_process(folder, "--url", triton) as (client, _):
                assert client.get("/v1/batches").json()["data"] == []
                client.post("/v1/batches", content="null\n")  # the folder is tidied after this turn at the latest
                until(lambda: client.get("/v1/batches").json()["data"][0]["status"] == "failed")
            restore(right, folder / "reviews.db")
            continue
        database = {"wrong": tmp_path / f"typo{start}.db", "second": other / "reviews.db"}.get(kind, tmp_path / "s.db")
        options = ("--sandbox",) if kind == "sandbox" else ("--url", triton)
        ended = run_here("api", "--database", database, "--folder", folder, *options)
        assert ended.returncode == 2 and "of another database" in ended.stderr, ended.stderr
        assert (kind == "wrong") != database.exists() or kind == "sandbox"
    with api_process(folder, "--url", triton) as (client, _):
        assert [len(results(client, batch)) for batch in ids] == [ROWS] * BATCHES


def test_sandbox_refuses_a_real_database_and_others_refuse_the_sandbox(tmp_path: Path, triton: str) -> None:
    with api_process(tmp_path, "--url", triton) as (_, __):
        pass
    real = tmp_path / "reviews.db"
    (tmp_path / "sandbox").mkdir()
    with api_process(tmp_path / "sandbox", "--sandbox"):
        pass
    for database, options, said in (
        (real, ("--sandbox",), "the sandbox decides rows"),
        (tmp_path / "sandbox" / "reviews.db", ("--url", triton), "--sandbox made this database"),
    ):
        ended = run_here("api", "--database", database, "--folder", tmp_path / "new", *options)
        assert ended.returncode == 2 and said in ended.stderr, ended.stderr


def test_database_and_folder_of_an_earlier_version_go_on(tmp_path: Path, triton: str) -> None:
    ids = made(tmp_path, triton)
    (tmp_path / ".database").unlink()
    database = Database(str(tmp_path / "reviews.db"))
    with database.write() as connection:
        connection.execute(delete(settings).where(settings.c.key == IDENTITY))
    database.close()
    ended = run_here("api", "--database", tmp_path / "typo.db", "--folder", tmp_path, "--url", triton)
    assert ended.returncode == 2 and "of another database" in ended.stderr
    with api_process(tmp_path, "--url", triton) as (client, _):
        assert [len(results(client, batch)) for batch in ids] == [ROWS] * BATCHES
    with database.write() as connection:  # a backup of before, and a folder that has an owner
        connection.execute(delete(settings).where(settings.c.key == IDENTITY))
    database.close()
    with api_process(tmp_path, "--url", triton) as (client, _):
        assert status(client, ids[0]) == "completed"


def test_moved_folder_goes_on_with_unfinished_batches(tmp_path: Path, triton: str) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    with api_process(before, "--url", triton) as (client, process):
        batch = sent(client, 1, 8_000)
        until(lambda: results(client, batch), process)
        process.kill()
        process.wait()
    done = len([*before.rglob("part-*.parquet")])
    assert done < 8
    shutil.copytree(before, after, copy_function=shutil.copy)  # other times, other inodes
    shutil.rmtree(before)
    assert str(before) not in "".join(path.read_text() for path in after.rglob("_journal.jsonl"))
    with api_process(after, "--url", triton) as (client, _):
        until(lambda: status(client, batch) not in ("validating", "in_progress", "finalizing"), within_s=60)
        assert client.get(f"/v1/batches/{batch}").json()["errors"] is None
        assert [found["id"] for found in results(client, batch)] == [f"1-{n}" for n in range(8_000)]


def test_database_of_before_the_end_of_a_batch_gets_its_results(tmp_path: Path, triton: str) -> None:
    (batch, *_) = made(tmp_path, triton)
    database = Database(str(tmp_path / "reviews.db"))
    with database.write() as connection:  # as in a backup that was taken while the batch ran
        connection.execute(batches.update().values(state="in_progress", times="{}"))
    database.close()
    with api_process(tmp_path, "--url", triton) as (client, _):
        until(lambda: status(client, batch) != "in_progress")
        assert (status(client, batch), len(results(client, batch))) == ("completed", ROWS)
        part = next((tmp_path / batch).rglob("part-*.parquet"))
        part.unlink()
        answered = client.get(f"/v1/batches/{batch}/results")
        assert (answered.status_code, answered.json()["title"]) == (500, "Results incomplete")
        assert "part-000000" in answered.json()["detail"]
