"""Points that people gave, through the whole loop: labels → train → serve → report → evaluate → calibrate."""

import csv
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from interrupted_training import write_labelled
from making import make_encoder
from scoremux_assess.commands.agreement_commands import evaluate, report
from scoremux_engine import Engine
from scoremux_engine.packages.adapter_folders import find_adapters
from scoremux_engine.store.store import Store
from scoremux_export.export_graph import export_backbone
from scoremux_export.opening.openable import Opening
from scoremux_train.commands import train
from serving import run_here


def test_points_of_one_file_go_from_training_to_the_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file as a spreadsheet writes it, on an uneven scale, gives the figures that its levels give."""
    model = make_encoder(tmp_path / "model", max_tokens=96)
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
    backbone = export_backbone(str(model), Opening("all-linear"), tmp_path / "repository")
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
    assert "of no level" not in said[0][0] and "1 rows have no level in the truth" in said[0][0]
    assert "column of the points" in (tmp_path / "Punkte" / "r.html").read_text()
