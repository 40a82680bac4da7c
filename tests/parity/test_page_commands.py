"""The commands of the pages about exports and stores, in the order in which they are shown, with a small model."""

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from making import make_encoder
from mixed_store import train_adapter
from pages import blocks
from scoremux.app import build, spread
from scoremux_engine.store.store import Store

BASE = "sentence-transformers/all-MiniLM-L6-v2"
MODEL = "models/all-MiniLM-L6-v2"
ELSEWHERE = ("serve ", "front-door ", "calibrate ")
"""Servers are in tests/triton; tests/unit/test_calibrate_command.py has enough rows to calibrate."""


def run(command: str, version: str = "") -> str:
    """Run a command of a page in the current folder; return its output. version: what the page's digest stands for."""
    line = command.replace("export backbone --for", f"export backbone {MODEL} --for").replace("93a7fbe48a89", version)
    words = shlex.split(line.replace(f"backbone {BASE}", f"backbone {MODEL}"))[1:]
    words = [
        path for word in words for path in (sorted(map(str, Path().glob(word))) if "*" in word[1:] else []) or [word]
    ]
    done = CliRunner().invoke(build(), spread(words))
    assert done.exit_code == 0, (line, done.output, done.exception)
    return done.output


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what a reader brings: a model, adapters, tasks, labelled rows."""
    model = make_encoder(tmp_path / MODEL, layers=1, max_tokens=256)
    for seed, name in enumerate(("en-6.3-ipp", "ice", "rain")):
        folder = train_adapter(model, tmp_path / "adapters" / name, seed, target_modules=["query", "value"])
        config = folder / "adapter_config.json"
        config.write_text(json.dumps({**json.loads(config.read_text()), "base_model_name_or_path": BASE}))
    (tmp_path / "adapters" / "rain" / "task.json").unlink()
    page = list(blocks("export/README.md"))
    (bio,) = (block.text for block in page if block.language == "json")
    (table,) = (block.text for block in page if block.language == "csv")
    (tmp_path / "adapters" / "ice" / "task.json").write_text(bio)
    (tmp_path / "tasks.csv").write_text(table)
    rows = [{"task": "bio-7", "text": f"Because {n} is light.", "level": n % 3} for n in range(6)]
    (tmp_path / "labelled.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    texts = [f"bio-9,Because {n} is heavy.,{n % 2}\n" for n in range(24)]
    (tmp_path / "labelled.csv").write_text("task,text,level\n" + "".join(texts))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def shell(page: str) -> list[str]:
    lines = [command for block in blocks(page) if block.language == "shell" for command in block.commands]
    return [c for c in lines if c.startswith("scoremux ") and not c.removeprefix("scoremux ").startswith(ELSEWHERE)]


def test_the_commands_of_the_pages_run_in_their_order(reader: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, *commands = shell("export/README.md") + shell("export/training.md")
    assert "3 adapters of" in run(first)
    run("scoremux tasks add adapters --store repo/store")
    # Further exports take long and are like the first.
    printed = [run(c) for c in commands if not c.startswith("scoremux export backbone ")]
    assert len(printed) == 5
    assert any("Because it is light." in text for text in printed)
    names: dict[str, Any] = {}
    for block in blocks("export/README.md"):
        if block.language == "python":
            exec(compile(block.text.replace('"MODEL"', repr(MODEL)), block.where, "exec"), names)
    assert "[2, " in capsys.readouterr().out  # the tokenizer's first token

    shutil.copytree("repo/backbone", "other/backbone")
    store = Store(reader / "repo" / "store")
    train_adapter(reader / MODEL, reader / "adapters" / "en-6.3-ipp", 9, target_modules=["query"])
    commands = shell("engine/README.md") + shell("engine/front_door.md")
    assert len(commands) == 13
    for command in commands:
        run(command, store.manifest().tasks.get("en-6.3-ipp", ""))
    assert "en-6.3-ipp" not in store.manifest().tasks
    assert "en-6.3-ipp" in Store(reader / "other" / "store").manifest().tasks
