"""Tasks with their question and policy; `/readyz`; options that the command refuses; the OpenAPI file."""

import json
import re
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from apis import TASKS, api, listening_api
from making import ROOT
from openapi_file import openapi_text
from scoremux_client import UnavailableError
from scoremux_client.testing import FakeTransport
from scoremux_desk.api.followers import Followers
from scoremux_desk.database.connection import Database
from scoremux_desk.database.programme import Item, item_of
from scoremux_desk.errors import DatabaseError
from scoremux_server.front_door.access_tokens import AccessTokenFile
from serving import run_here

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
NEEDED = ("api", "--database", "s.db")


def test_tasks_have_levels_points_and_a_version(tmp_path: Path) -> None:
    with api(tmp_path) as (client, _):
        first, second = client.get("/v1/tasks").json()["tasks"]
        assert (first["id"], first["levels"], first["points"]) == ("t-1", [0, 1, 2], [0, 0.5, 1])
        assert client.get("/v1/tasks/t-3").status_code == 404
        assert client.get("/v1/tasks/t-2").json() == second


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


def test_ready_needs_the_scoring_server_the_database_and_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    transport = FakeTransport(TASKS)
    with api(tmp_path, transport) as (client, services):
        assert (client.get("/readyz").status_code, client.get("/healthz").text) == (200, "ok\n")
        transport.fail(UnavailableError("restarting"))
        answer = client.get("/readyz")
        assert (answer.status_code, answer.json()["title"]) == (503, "Scoring unavailable")

        def fail() -> None:
            raise DatabaseError("gone")

        monkeypatch.setattr("scoremux_desk.api.services.LEAST_FREE_BYTES", 1 << 60)
        assert client.get("/readyz").json()["title"] == "Storage unavailable"
        monkeypatch.undo()
        services.database.is_there = fail  # type: ignore[method-assign]
        assert client.get("/readyz").json()["title"] == "Database unavailable"
        assert client.get("/healthz").status_code == 200


@pytest.mark.parametrize(
    ("options", "refusal"),
    [
        ("", "give --url, the address of Triton, or --sandbox"),
        ("--sandbox --url localhost:8001", "give --url, the address of Triton, or --sandbox"),
        ("--url http://localhost:8000", "the client speaks gRPC"),
        ("--sandbox --tasks none", "--tasks none is no store"),
        ("--sandbox --grant-key key --tokens none.json", "none.json is missing"),
        ("--sandbox --port 80000", "less than or equal to 65535"),
        (
            "--url 192.0.2.1:8001 --grant-key key --tokens tokens",
            "could be read on the way; use grpcs://192.0.2.1:8001",  # the API has no option --insecure
        ),
    ],
)
def test_wrong_options_are_refused(options: str, refusal: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("key").write_text("0123456789abcdef" * 4)
    AccessTokenFile(Path("tokens")).add("acme", ["*"], 1, 1)
    ended = run_here(*NEEDED, *options.split())
    assert ended.returncode == 2 and refusal in " ".join(ended.stderr.replace("│", " ").split())
    assert "insecure" not in ended.stderr and not Path("s.db").exists()


def test_desk_gets_questions_and_points_of_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "store/packages/ab").mkdir(parents=True)
    Path("store/manifest.json").write_text(json.dumps({"tasks": {"t-1": "ab"}}))
    task = {"id": "t-1", "levels": [0, 0.5, 2], "question": "What is DHCP for?"}
    Path("store/packages/ab/task.json").write_text(json.dumps(task))
    monkeypatch.setattr("scoremux_desk.api.commands._serve", lambda *_: None)
    done = run_here(*NEEDED, "--sandbox", "--tasks", "store", "--keep-days", "182")
    assert not done.returncode and "erased after 182 days" in done.stdout + done.stderr
    with closing(Database("s.db")) as database, database.read() as connection:
        assert item_of(connection, "t-1") == Item("t-1", (0, 0.5, 2), "What is DHCP for?")


def test_openapi_file_is_what_the_api_offers(tmp_path: Path) -> None:
    with api(tmp_path) as (client, _):
        told = client.get("/v1/openapi.json").json()
        written = (ROOT / "desk/scoremux_desk/api/openapi.json").read_text(encoding="utf-8")
        assert written == openapi_text(client.app), "python tests/support/openapi_file.py writes it"  # type: ignore[arg-type]
    assert told == json.loads(written)


@pytest.mark.parametrize(  # 10,000 cases at night, in two tests that take less than the ten minutes they have
    ("examples", "seed", "least"),
    [(20, 5, 300), *(pytest.param(1_000, s, 5_000, marks=pytest.mark.nightly) for s in (6, 7))],
)
def test_answers_are_in_openapi(
    tmp_path: Path, examples: int, seed: int, least: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: object) -> bool:
        return False

    monkeypatch.setattr(Followers, "wait", never)
    words = (
        f"--checks {CHECKS} --max-examples {examples} --phases coverage,fuzzing --warnings off --no-color --seed {seed}"
    )
    with listening_api(tmp_path) as address:
        command = [Path(sys.executable).with_name("schemathesis"), "run", f"http://{address}/v1/openapi.json"]
        ended = subprocess.run([*command, *words.split()], capture_output=True, text=True, cwd=tmp_path)
    cases = re.search(r"(\d+) generated, \1 passed", ended.stdout.replace(",", "").replace("generated ", "generated, "))
    assert ended.returncode == 0 and cases, ended.stdout[-6000:] + ended.stderr[-2000:]
    assert int(cases[1]) >= least
