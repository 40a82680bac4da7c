"""Tasks with their ETag, question and policy; `/readyz`, and the limits in headers."""

import json
from contextlib import closing
from pathlib import Path

import pytest

from apis import TASKS, api
from scoremux_client import UnavailableError
from scoremux_client.testing import FakeTransport
from scoremux_review.database.connection import Database
from scoremux_review.database.programme import Item, item_of
from scoremux_review.errors import DatabaseError
from scoremux_server.front_door.access_tokens import TokenFile
from serving import run_here


def test_tasks_have_levels_points_and_version(tmp_path: Path) -> None:
    with api(tmp_path) as (client, _):
        first, second = client.get("/v1/tasks").json()["tasks"]
        assert (first["id"], first["levels"], first["points"]) == ("t-1", [0, 1, 2], [0, 0.5, 1])
        assert client.get("/v1/tasks/t-2").json() == second
        assert client.get("/v1/tasks/t-3").status_code == 404


def test_version_is_the_etag(tmp_path: Path) -> None:
    with api(tmp_path) as (client, _):
        answer = client.get("/v1/tasks/t-1")
        etag = f'"{answer.json()["version"]}"'
        assert answer.headers["etag"] == etag
        unchanged = client.get("/v1/tasks/t-1", headers={"if-none-match": etag})
        assert (unchanged.status_code, unchanged.content, unchanged.headers["etag"]) == (304, b"", etag)
        assert client.get("/v1/tasks/t-1", headers={"if-none-match": '"older"'}).status_code == 200


def test_question_and_policy_are_those_of_the_live_version(tmp_path: Path) -> None:
    with api(tmp_path, tasks=tmp_path) as (client, _):
        package = tmp_path / "packages" / client.get("/v1/tasks/t-1").json()["version"]
        assert client.get("/v1/tasks/t-1").json()["question"] is None
        package.mkdir(parents=True)
        (package / "task.json").write_text(json.dumps({"id": "t-1", "question": "What is DHCP for?"}))
        decision = {"format": 1, "policy": "ab" * 32, "threshold": {"least": 0.8}, "unusual": {"centres": [[0.5]]}}
        (package / "decision.json").write_text(json.dumps(decision))
        task = client.get("/v1/tasks/t-1").json()
    assert task["question"] == "What is DHCP for?"
    assert task["policy"] == {"policy": "ab" * 32, "threshold": {"least": 0.8}}


def test_ready_needs_the_scoring_server_and_the_database(tmp_path: Path) -> None:
    transport = FakeTransport(TASKS)
    with api(tmp_path, transport) as (client, services):
        assert (client.get("/readyz").status_code, client.get("/healthz").text) == (200, "ok\n")
        transport.fail(UnavailableError("restarting"))
        answer = client.get("/readyz")
        assert (answer.status_code, answer.json()["title"]) == (503, "Scoring unavailable")

        def fail() -> None:
            raise DatabaseError("gone")

        services.database.is_there = fail  # type: ignore[method-assign]
        assert client.get("/readyz").json()["title"] == "Database unavailable"
        assert client.get("/healthz").status_code == 200


def test_limits_are_in_the_headers(tmp_path: Path) -> None:
    with api(tmp_path) as (client, _):
        answer = client.post("/v1/score", json={"rows": [{"id": "a", "task": "t-1", "text": "a text"}]})
    assert answer.headers["scoremux-limits"] == f"rows=512, bytes={8 << 20}"


@pytest.mark.parametrize(
    ("options", "refusal"),
    [
        (("--tasks", "none"), "--tasks none is no store"),
        (("--grant-key", "key", "--tokens", "none.json"), "none.json is missing"),
        (("--port", "80000"), "less than or equal to 65535"),
    ],
)
def test_options_that_could_not_work_are_refused_at_the_start(
    options: tuple[str, ...], refusal: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("key").write_text("0123456789abcdef" * 4)
    ended = run_here("api", "--sandbox", "--database", "s.db", "--folder", "s", *options)
    assert ended.returncode == 2 and refusal in " ".join(ended.stderr.replace("│", " ").split())


def test_desk_gets_questions_and_points_of_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "store/packages/ab").mkdir(parents=True)
    Path("store/manifest.json").write_text(json.dumps({"tasks": {"t-1": "ab"}}))
    task = {"id": "t-1", "levels": [0, 0.5, 2], "question": "What is DHCP for?"}
    Path("store/packages/ab/task.json").write_text(json.dumps(task))
    monkeypatch.setattr("scoremux_api.commands._serve", lambda *_: None)
    assert not run_here(*["api", "--sandbox", "--database", "s.db", "--folder", "s", "--tasks", "store"]).returncode
    with closing(Database("s.db")) as database, database.read() as connection:
        assert item_of(connection, "t-1") == Item("t-1", (0, 0.5, 2), "What is DHCP for?")


def test_grant_goes_to_another_machine_over_tls_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("key").write_text("0123456789abcdef" * 4)
    TokenFile(Path("tokens")).add("acme", ["*"], 1, 1)
    files = ("--database", "s.db", "--folder", "s", "--grant-key", "key", "--tokens", "tokens")
    ended = run_here("api", "--url", "192.0.2.1:8001", *files)
    said = " ".join(ended.stderr.split())
    assert ended.returncode == 2 and "is not encrypted" in said and "use grpcs://192.0.2.1:8001" in said
    assert "insecure" not in said
