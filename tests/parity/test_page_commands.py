"""Commands of the pages one after the other, and points that go from training to the report."""

import csv
import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from interrupted_training import write_labelled
from making import make_encoder
from mixed_store import train_adapter
from pages import blocks
from scoremux.app import build, spread
from scoremux_engine import Engine
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.packages.adapter_folders import find_adapters
from scoremux_engine.store.store import Store
from scoremux_evidence.commands.agreement_commands import evaluate, report
from scoremux_train.commands import train
from serving import run_here

BASE = "sentence-transformers/all-MiniLM-L6-v2"
MODEL = "models/all-MiniLM-L6-v2"
ELSEWHERE = ("serve ", "front-door ", "calibrate ", "tasks follow ")
"""Servers are in tests/triton, buckets in test_origin.py; test_calibrate_command.py has enough rows."""


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
    assert len(printed) == 2
    names: dict[str, Any] = {}
    for block in blocks("export/README.md"):
        if block.language == "python":
            exec(compile(block.text.replace('"MODEL"', repr(MODEL)), block.where, "exec"), names)
    assert "[2, " in capsys.readouterr().out  # the tokenizer's first token

    shutil.copytree("repo/backbone", "other/backbone")
    store = Store(reader / "repo" / "store")
    train_adapter(reader / MODEL, reader / "adapters" / "en-6.3-ipp", 9, target_modules=["query"])
    commands = shell("engine/README.md") + shell("engine/front_door.md")
    assert len(commands) == 10
    for command in commands:
        run(command, store.manifest().tasks.get("en-6.3-ipp", ""))
    assert "en-6.3-ipp" not in store.manifest().tasks
    assert "en-6.3-ipp" in Store(reader / "other" / "store").manifest().tasks


def test_points_from_training_to_report(
    open_repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file as a spreadsheet writes it, on an uneven scale, gives the figures that its levels give."""
    model = open_repository / "source"
    scale, names = {"t-a": ("0", "0,5", "2"), "t-b": ("1", "3")}, "Nr;Aufgabe;Antwort;{};Zweite;Schüler"
    files = {name: ["\ufeff" + names.format(name)] for name in ("Punkte", "level")}
    for n, line in enumerate(write_labelled(tmp_path / "rows.jsonl", 45, ("t-a", "t-b")).read_text().splitlines()):
        row = json.loads(line)
        points = scale[row["task"]]
        level, second = n % len(points), (n + (n % 4 == 0)) % len(points)
        for name, given in (("Punkte", points), ("level", range(len(points)))):
            second_cell = given[second] if n % 2 else ""
            cells = [row["id"], row["task"], f'"{row["text"]}; {n}"', given[level] if n else "", second_cell, n // 2]
            files[name].append(";".join(map(str, cells)))
    for name, lines in files.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "labels.csv").write_bytes("\r\n".join([*lines, ""]).encode())
    (tmp_path / "tasks.csv").write_text("id,levels\nt-a,0 0.5 2\nt-b,1 3\n")
    (tmp_path / "train.toml").write_text("folds = 3\n[recipe]\nepochs = 1\n")
    (tmp_path / "policy.toml").write_text("[target]\nexact = 0.5\none_level = 'keep'\n")
    columns = ["id=Nr", "task=Aufgabe", "text=Antwort", "second=Zweite", "student=Schüler"]
    by_name = {"Punkte": [*columns, "score=Punkte"], "level": columns}
    truth, out = tmp_path / "Punkte" / "labels.csv", tmp_path / "out"
    train([truth], str(model), out, tmp_path / "tasks.csv", tmp_path / "train.toml", column=by_name["Punkte"])
    shutil.copytree(open_repository / "backbone", tmp_path / "repository" / "backbone")
    backbone = Backbone.open(tmp_path / "repository" / "backbone" / "1")
    Store(tmp_path / "repository" / "store").add(find_adapters([out]), backbone)
    assert "both: QWK undefined, exact 1.000" in (out / "t-b" / "card.md").read_text(), "two people, and one level"
    rows = list(csv.reader(files["Punkte"][1:], delimiter=";"))
    engine, said = Engine.open(tmp_path / "repository"), []
    scored = engine.score([cells[2] for cells in rows], [cells[1] for cells in rows])
    outcomes = [
        {"id": cells[0], "task": cells[1], "status": "OK", "level": one.level, "score": one.score}
        | {"probabilities": one.probabilities}
        for cells, one in zip(rows, scored, strict=True)
    ]
    pq.write_table(pa.Table.from_pylist(outcomes), tmp_path / "scored.parquet")
    for name, named in by_name.items():
        labels = tmp_path / name / "labels.csv"
        report(tmp_path / "scored.parquet", labels, tmp_path / name / "r.html", column=named)
        capsys.readouterr()
        for output in (tmp_path / "scored.parquet", out / "predictions.parquet"):
            evaluate(output, labels, column=named)
        options = ["--repository", tmp_path / "repository", "--policy", tmp_path / "policy.toml", "--dry-run"]
        options += ["--predictions", out / "predictions.parquet", *(f"--column={column}" for column in named)]
        calibrated = run_here("calibrate", labels, *options)
        assert calibrated.returncode == 0, calibrated.stderr
        printed = calibrated.stdout.replace("level or Punkte", "level, counted from 0")
        figures = json.loads((tmp_path / name / "r.json").read_text())["tasks"]
        said.append((capsys.readouterr().out, printed, figures))
    assert said[0] == said[1]
    assert "of no level" not in said[0][0] and "1 rows have no level of a person" in said[0][0]
    assert "column of the points" in (tmp_path / "Punkte" / "r.html").read_text()
