"""README, followed by somebody who reads it: its commands in order, its Python, and the client's pages after it."""

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest

from making import ROOT
from pages import blocks
from saf import ADAPTERS, minilm, needs_minilm
from serving import run_here, serving

pytestmark = [needs_minilm, pytest.mark.nightly]

ELSEWHERE = (
    "make ",
    "python3 -m venv ",
    "pip install ",
    *(f"scoremux {c} " for c in ("serve", "sample", "review")),
)
"""CI itself does the first three, and test_demo.py runs the demo; the server below runs on free ports."""

CLIENT = ("client/README.md", "evidence/README.md", "client/wire.md")


@pytest.fixture
def reader(saf_repository: Path, tmp_path: Path) -> Path:
    """A folder with what a reader of README has, adapters and responses, and the backbone that the first start makes.

    `test_one_command.py` starts without one.
    """
    shutil.copytree(ADAPTERS, tmp_path / "adapters")
    shutil.copytree(saf_repository, tmp_path / "repo", ignore=shutil.ignore_patterns("store"))
    (tmp_path / "examples" / "saf").mkdir(parents=True)
    shutil.copy(ROOT / "examples" / "saf" / "responses.jsonl", tmp_path / "examples" / "saf")
    # The client's page has another job with the same output.
    (tmp_path / "client" / "responses").mkdir(parents=True)
    (tmp_path / "client" / "repo").symlink_to(tmp_path / "repo")
    rows = [{"task": "en-6.3-ipp", "text": f"Answer {n}.", "id": str(n)} for n in range(5)]
    (tmp_path / "client" / "responses" / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    labelled = "id,level,level2,gender,l1\n" + "".join(f"{n},{n % 2},{n % 3},x,de\n" for n in range(5))
    (tmp_path / "client" / "labelled.csv").write_text(labelled)
    return tmp_path


def run(command: str, folder: Path, url: str) -> None:
    """Run a command of a page as written, but for what tests cannot have."""
    _, *words = shlex.split(command.replace("localhost:8001", url))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        done = run_here(*words)
    assert done.returncode == 0, (command, done.stdout, done.stderr)


def test_readme_gives_scores(reader: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    shell = [c for block in blocks("README.md") if block.language == "shell" for c in block.commands]
    commands = [command for command in shell if not command.startswith(ELSEWHERE)]
    assert [command.split()[1] for command in commands] == ["score"]
    (first,) = (command for command in shell if "--adapters" in command)
    assert first == "scoremux serve --repository repo --adapters adapters"
    # The copy of the hub's model that is here.
    options = ["--adapters", str(reader / "adapters"), "--backbone", str(minilm())]
    with serving(reader / "repo", reader, options=options, start_s=600) as server:
        url = server.endpoints.grpc_url
        for command in commands:
            run(command, reader, url)
        of_client = [b for page in CLIENT for b in blocks(page) if b.language == "shell"]
        (curl,) = (block.text for block in of_client if block.text.startswith("curl "))
        _, address, _, body = shlex.split(curl)
        answer = httpx.post(address.replace("localhost:8000", server.endpoints.http_url), content=body).json()
        (shown,) = (block.text for block in blocks("client/wire.md") if block.language == "json")
        shown_outputs = json.loads(shown)["outputs"]
        assert [{**output, "data": []} for output in answer["outputs"]] == [{**o, "data": []} for o in shown_outputs]
        for output, expected in zip(answer["outputs"], shown_outputs, strict=True):
            numbers = output["datatype"] == "FP32"
            assert output["data"] == (pytest.approx(expected["data"], abs=1e-4) if numbers else expected["data"])
        commands = [c for block in of_client if block.text != curl for c in block.commands]
        commands = [c for c in commands if not c.startswith(ELSEWHERE) and "--engine ray" not in c]
        assert [command.split()[1] for command in commands] == ["score", "evaluate", "report", "compare"]
        for command in commands:
            run(command, reader / "client", url)
            for version in ("before", "after"):
                shutil.copytree(reader / "client" / "scored", reader / f"client/scored-{version}", dirs_exist_ok=True)
        assert len(list((reader / "scored").glob("*.parquet"))) == 1
        names: dict[str, Any] = {}
        snippets = [b for page in ("README.md", *CLIENT) for b in blocks(page) if b.language == "python"]
        assert len(snippets) == 4
        monkeypatch.chdir(reader / "client")
        for snippet in snippets:
            exec(compile(snippet.text.replace("localhost:8001", url), snippet.where, "exec"), names)
    (shown,) = (block.text for block in blocks("README.md") if block.language == "" and block.text.startswith("OK "))
    assert capsys.readouterr().out.splitlines()[:3] == shown.splitlines()
