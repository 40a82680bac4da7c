"""`scoremux dossier`: what it takes from the files of other commands, what it leaves blank, and what it refuses."""

import json
from pathlib import Path
from typing import Any

import pytest

from scoremux_client.audit_lines import ChainEnd, chained, event_line
from scoremux_evidence.commands.agreement_commands import report
from scoremux_evidence.commands.dossier import STATEMENTS, dossier
from scoremux_evidence.rows.trained_rows import TrainedRows
from scoremux_files import InputError

OLD, NOW, OTHER = (letter * 64 for letter in "abc")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Write a store whose live version NOW is OLD with a calibration; OTHER has another adapter."""
    store = tmp_path / "store"
    ends = [*zip((None, OTHER, OLD), (OTHER, OLD, NOW), strict=True)]
    for _, version in ends:
        package = store / "packages" / version
        package.mkdir(parents=True)
        (package / "task.json").write_text(json.dumps({"id": "t", "levels": [0, 1, 2], "question": "<Why?>"}))
        (package / "adapter_model.safetensors").write_text("other" if version == OTHER else "one")
        (package / "trained.json").write_text(TrainedRows(ids=frozenset("0" * 16)).to_json())
    (store / "manifest.json").write_text(json.dumps({"tasks": {"t": NOW}}))
    change = {"when": "2026-12-01T08:00:00.000+00:00", "who": "dana", "action": "add", "task": "t"}
    (store / "history.jsonl").write_text(
        "".join(json.dumps({**change, "from": before, "to": after}) + "\n" for before, after in ends)
    )
    return store


def reported(folder: Path, version: str) -> Path:
    """Write a report on 60 rows that a version scored, 5 of them of students of the group `few`."""
    rows = [{"id": n, "task": "t", "status": "OK", "level": n % 3, "version": version} for n in range(60)]
    truth = [{"id": n, "task": "t", "level": (n - n % 7 // 6) % 3, "l1": "few" if n < 5 else "many"} for n in range(60)]
    for name, lines in (("scored", rows), ("truth", truth)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    report(folder / "scored.jsonl", folder / "truth.jsonl", folder / f"{version[:3]}.html", column=["group=l1"])
    return folder / f"{version[:3]}.json"


def made(store: Path, out: str, task: str = "t", **files: Any) -> dict[str, Any]:
    dossier(task, store, store.parent / out, **files)
    values: dict[str, Any] = json.loads((store.parent / out / "dossier.json").read_bytes())
    return values


def test_a_dossier_takes_what_is_about_its_version_and_names_each_blank(store: Path, tmp_path: Path) -> None:
    (tmp_path / "statements.toml").write_text('purpose = "Homework & <tests>."\n')
    of_old = reported(tmp_path, OLD)
    values = made(store, "full", report=[of_old], statements=tmp_path / "statements.toml")
    (one,) = values["facts"]["reports"]
    assert one["tasks"][0]["statistics"]["exact"]["n"] == 60, "the calibration changed no level"
    assert values["version"] == NOW and values["is_live"] and values["facts"]["trained"]["rows"] == 1
    assert {*values["blanks"]} == {*STATEMENTS, "card", "decision", "calibrated_on", "in_use", "policy", "logs"} - {
        "purpose"
    }
    page = (tmp_path / "full" / "dossier.html").read_text()
    assert "Homework &amp; &lt;tests&gt;." in page and "&lt;Why?&gt;" in page and "l1: many" in page
    assert page.count("fewer than 10 students") == 1 and all(f'id="blank-{key}"' in page for key in values["blanks"])
    assert {"abc.html", "aaa.html", "aaa.json", "statements.toml", "task.json"} & {*values["files"]} == {
        path.name for path in (tmp_path / "full").iterdir() if not path.name.startswith("dossier")
    }
    values = made(store, "other", report=[reported(tmp_path, OTHER)])
    assert not values["facts"]["reports"] and {"reports", "groups", "purpose"} <= {*values["blanks"]}
    assert made(store, "pinned", "t@ccc", report=[tmp_path / "ccc.json"])["facts"]["reports"]


def test_a_dossier_has_starts_and_alarms_of_logs_and_names_a_gap(store: Path, tmp_path: Path) -> None:
    start = event_line("start", arithmetic="x86-f32", precision="float32", engine="0.2", check="far enough")
    rows = [event_line("row") | {"status": "OK", "version": version} for version in (NOW, OLD, NOW)]
    lines, _ = chained([start, *rows], ChainEnd())
    (tmp_path / "a.log").write_bytes(
        b"".join(lines.splitlines(keepends=True)[:2] + lines.splitlines(keepends=True)[3:])
    )
    (tmp_path / "alarms-a.log").write_bytes(chained([event_line("alarm", cause="other bits")], ChainEnd())[0])
    (log,) = made(store, "out", audit_log=[tmp_path / "a.log"])["facts"]["logs"]
    assert (log["lines"], log["of_version"], len(log["faults"])) == (4, 2, 1)
    page = (tmp_path / "out" / "dossier.html").read_text()
    assert all(words in page for words in ("a.log, line 3", "far enough", "other bits", "Alarms of the server: 1"))


def test_a_dossier_refuses_what_it_cannot_read(store: Path, tmp_path: Path) -> None:
    (tmp_path / "wrong.json").write_text("{}")
    (tmp_path / "wrong.toml").write_text('porpoise = "x"\n')
    for files, sentence in (
        ({"report": [tmp_path / "wrong.json"]}, "wrong.json is not what `scoremux report --out` writes"),
        ({"watch": tmp_path / "wrong.json"}, "wrong.json is not what `scoremux watch --out` writes"),
        ({"statements": tmp_path / "wrong.toml"}, "wrong.toml: unknown key porpoise"),
        ({"task": "t@d"}, "has 0 versions d of t"),
        ({"calibration": tmp_path / "none.json"}, "none.json cannot be read"),
    ):
        with pytest.raises(InputError, match=sentence):
            made(store, "out", **files)
        assert not (tmp_path / "out").exists()
    made(store, "out")
    with pytest.raises(InputError, match="out cannot be written: File exists"):
        made(store, "out")
