"""`scoremux calibrate` on a small store: what it publishes, what it refuses, what it prints."""

import json
import subprocess
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from labelled import Row, cells, each, rows_of
from labelled import labelled as row_of
from making import ROOT, TASKS, make_adapter
from scoremux_client.errors import InputError
from scoremux_decide.decision import Temperature
from scoremux_decide.policy import ScoringPolicy, read_policy
from scoremux_engine import Engine
from scoremux_engine.commands import tasks
from scoremux_engine.errors import PackageError
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.packages.package import adapter_digest
from scoremux_engine.packages.package_files import CONFIG_JSON, TASK_JSON, TRAINED_JSON, PackageFiles
from scoremux_engine.runners.choose import REFERENCE
from scoremux_engine.runners.runner import BackboneRunner, Outputs, RowInputs
from scoremux_engine.store.store import Store
from scoremux_evidence.promise import calibration_view
from scoremux_evidence.promise.calibration import Calibration, calibrate_tasks, publish
from scoremux_evidence.promise.eligible import CalibrationReason
from scoremux_evidence.rows.label_columns import LabelColumns
from scoremux_evidence.rows.predicted import read_labelled
from scoremux_evidence.rows.reading import read_labels
from scoremux_evidence.rows.rules import RELABELLED
from scoremux_evidence.rows.table import Rows
from scoremux_evidence.rows.trained_rows import TrainedRows
from scoremux_files.rows.codes import codes_of
from scoremux_files.rows.readers import text_check
from scoremux_server.serve import decision_hints, decisions_of, uncalibrated_hints
from serving import run_here

TEXTS = [f"router {word} the packet {n}" for n, word in enumerate(["sent", "lost", "bridge", "window"] * 30)]


@pytest.fixture(scope="module")
def labels(small_repository: Path) -> str:
    """Lines of rows of two tasks whose humans agree with the machine in nine of ten."""
    engine, rows = Engine.open(small_repository), []
    for task in ("t-1", "t-2"):
        for n, (text, scored) in enumerate(zip(TEXTS, engine.score(TEXTS, [task] * len(TEXTS)), strict=True)):
            level = scored.level if n % 10 else (scored.level + 1) % TASKS[task][1]
            rows.append({"id": f"{task}-{n}", "task": task, "text": text, "level": level})
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def labelled(labels: str, tmp_path: Path) -> Path:
    (tmp_path / "labelled.jsonl").write_text(labels)
    return tmp_path / "labelled.jsonl"


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return run_here("calibrate", *arguments)


def policy(
    tmp_path: Path,
    text: str = "[target]\nexact = 0.7\none_level = 'keep'\n[rows]\nown = 100\n[unusual]\nquantile = 0.99\n",
) -> Path:
    """Write a policy; unless it has a gate, no verdict sends a task to people: the machine of these tests is random."""
    (tmp_path / "policy.toml").write_text(text if "[gate]" in text else f"{text}\n[gate]\nverdict = 'off'\n")
    return tmp_path / "policy.toml"


def of_live(store: Store, *rows: Row) -> Rows:
    """Return rows whose predictions come from the live adapters."""
    digests = {
        name: adapter_digest(PackageFiles(store.package_folder(v))) for name, v in store.manifest().tasks.items()
    }
    return rows_of(*({**row, "adapter": digests[row["task"]]} for row in rows))


def test_new_versions_carry_a_decision(own_repository: Path, labelled: Path, tmp_path: Path) -> None:
    store = Store(own_repository / "store")
    before, engine = store.manifest().tasks, Engine.open(own_repository)
    rows = (TEXTS[:20], ["t-1"] * 20)
    scored = engine.score(*rows)
    given = (labelled, "--repository", own_repository, "--policy", policy(tmp_path))
    dry = run(*given, "--dry-run")
    assert (dry.returncode, store.manifest().tasks) == (0, before), dry.stderr
    assert "nothing was published" in dry.stdout and "this look at the promise is not recorded" in dry.stdout
    renamed = tmp_path / "renamed" / "labelled.jsonl"
    renamed.parent.mkdir()
    renamed.write_text(labelled.read_text().replace('"level"', '"grade"'))
    (renamed.parent / "columns.toml").write_text('level = "grade"\n')
    assert run(renamed, *given[1:], "--dry-run").stdout == dry.stdout
    lines = [line.replace("┃", "│").split("│") for line in dry.stdout.splitlines()]
    table = [[cell.strip() for cell in line[1:-1]] for line in lines if len(line) > 2]  # no cell is wrapped
    assert table[0] == ["task", "rows", "verdict", "threshold", "to people", "promise", "version"]
    assert [(row[0], row[1]) for row in table[1:]] == [("t-1", "120"), ("t-2", "120")]
    assert {row[5] for row in table[1:]} <= {"all to people", "exact ≥ 0.7 at 90%"}
    assert "2 tasks were tested by themselves" in dry.stdout
    done = run(*given, "--json")
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    after = store.manifest().tasks
    assert {task for task in after if after[task] != before[task]} == {"t-1", "t-2"}
    assert {one["task"]: one["version"] for one in said["tasks"]} == {task: after[task] for task in ("t-1", "t-2")}
    again = Engine.open(own_repository).score(*rows)
    assert [(s.level, s.score, s.probabilities) for s in again] == [(s.level, s.score, s.probabilities) for s in scored]
    assert all(s.confidence is not None and s.level_range is not None and s.route for s in again)
    decision = json.loads((store.package_folder(after["t-1"]) / "decision.json").read_text())
    assert len(decision["policy"]) == 64
    assert (decision["threshold"]["source"], decision["threshold"]["rows"]) == ("own", 120)
    assert "router" not in json.dumps(decision)
    assert decision["arithmetic"] == engine.arithmetic == again[0].arithmetic
    decisions = decisions_of(store)
    assert {decisions[task].arithmetic for task in ("t-1", "t-2")} == {engine.arithmetic}
    assert list(decision_hints(own_repository, decisions, engine.arithmetic)) == []
    (warning,) = decision_hints(own_repository, decisions, "vnni-int8-bf16")
    assert "vnni-int8-bf16: t-1, t-2; run" in warning
    (note,) = uncalibrated_hints(decisions, "machine")
    assert "no calibration of t-3, t-4" in note
    assert list(uncalibrated_hints({task: decisions[task] for task in ("t-1", "t-2")}, "machine")) == []


def test_a_stand_in_of_a_served_model_is_said_and_no_reason_to_calibrate_again(own_repository: Path) -> None:
    """`calibrate` cannot compute in a model that Triton serves, only with ONNX Runtime."""
    profile = 'runner = "triton"\nbackend = "tensorrt"\n'
    (own_repository / "profile.toml").write_text(profile)
    engine, store = Engine.open(own_repository), Store(own_repository / "store")
    rows = [row_of(str(n), "t-1", n % 3, None, text=text) for n, text in enumerate(TEXTS[:40])]
    calibration = calibrate_tasks(engine, store, ScoringPolicy(), rows_of(*rows))
    publish(engine, store, calibration)
    assert engine.arithmetic.startswith("onnxruntime-")
    for served in ("triton-onnxruntime-nvidia-h100-80gb-hbm3-f32", "triton-tensorrt-nvidia-h100-80gb-hbm3-float16"):
        (note,) = decision_hints(own_repository, decisions_of(store), served)
        assert note.startswith(f"note     decisions of t-1 were fitted in {engine.arithmetic}: it stands in for")
    (warning,) = decision_hints(own_repository, decisions_of(store), "x86-f32")
    assert warning.startswith("warning") and "profile.toml" in warning and "t-1; run `scoremux calibrate`" in warning
    assert list(decision_hints(own_repository, decisions_of(store), engine.arithmetic)) == []


def test_retired_task_is_left_out_and_a_change_to_no_calibration_is_said(own_repository: Path) -> None:
    engine, store = Engine.open(own_repository), Store(own_repository / "store")
    rows = [row_of(str(n), "t-1", n % 3, None, text=text) for n, text in enumerate(TEXTS[:40])]
    store.retire(["t-2"])
    rows += [row_of(str(n), "t-2", 0, None, text=TEXTS[n]) for n in range(3)]
    assert calibrate_tasks(engine, store, ScoringPolicy(), rows_of(*rows)).rows.left_out == {
        "are of a task that is no longer live: t-2": ["rows.jsonl:1"] * 3
    }
    publish(engine, store, calibrate_tasks(engine, store, ScoringPolicy(), rows_of(*rows)))
    line = ["rollback", "t-1", "--store", str(store.folder)]
    assert "NOT CALIBRATED, and the version before was: t-1" in CliRunner().invoke(tasks, line).output
    assert "NOT CALIBRATED" not in CliRunner().invoke(tasks, line).output


def test_predictions_of_training_take_the_place_of_scores(own_repository: Path, labelled: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in labelled.read_text().splitlines()]
    predicted = [
        {"id": r["id"], "task": r["task"], "fold": 0, "level": r["level"], "second_level": None, "probabilities": p}
        for r in rows[:60]
        for p in [[0.2] * 5]
    ]
    pq.write_table(pa.Table.from_pylist(predicted), tmp_path / "predictions.parquet")
    given = ("--repository", own_repository, "--policy", policy(tmp_path), "--dry-run")
    path = tmp_path / "predictions.parquet"
    others = run(labelled, *given, "--predictions", path).stdout
    assert "1 tasks would be calibrated" in others and "t-2" in others
    assert "1 tasks keep the calibration that they have, if any. Their predictions are not known" in others
    as_json = json.loads(run(labelled, *given, "--predictions", path, "--json").stdout)
    live = Store(own_repository / "store").manifest().tasks
    reasons = dict.fromkeys(sorted(live.keys() - {"t-1", "t-2"}), "no_rows")
    assert as_json["reasons"] == {"t-1": "not_of_live_adapters", **reasons}
    refused = run(*given, "--predictions", path)
    assert refused.returncode == 2 and "predictions are not known to come from the live adapters" in refused.stderr
    store = Store(own_repository / "store")
    live = PackageFiles(store.package_folder(store.manifest().tasks["t-1"]))
    described = live.replace(TASK_JSON, live.read(TASK_JSON).replace(b'"levels"', b'"rubric": "new", "levels"'))
    digest = adapter_digest(live)
    assert adapter_digest(described) == digest != adapter_digest(described.replace(CONFIG_JSON, b"{}"))
    pq.write_table(pa.Table.from_pylist([row | {"adapter": digest} for row in predicted]), path)
    done = run(labelled, *given, "--predictions", path)
    assert done.returncode == 0, done.stderr
    assert "60 rows have out-of-fold predictions" in done.stdout
    assert "180 rows were scored by the live versions: true only if no adapter was fitted to them, wh" in done.stdout


def test_no_promise_rests_on_trained_rows(own_repository: Path, labelled: Path, tmp_path: Path) -> None:
    """`train a.csv`, serve, `calibrate a.csv`: refused; with held-out rows beside them these alone count."""
    store, engine = Store(own_repository / "store"), Engine.open(own_repository)
    live = store.manifest().tasks["t-1"]
    rows = read_labels([labelled]).rows.by_task()["t-1"]
    with_rows = PackageFiles(store.package_folder(live)).replace(TRAINED_JSON, TrainedRows.of(rows).to_json().encode())
    assert store.manifest().format == 1
    store.publish([with_rows], engine.backbone)
    assert store.manifest().format == 2, "scoremux 0.1 would lose the rows"
    given = ("--repository", own_repository, "--policy", policy(tmp_path), "--dry-run")
    alone = tmp_path / "a.jsonl"
    alone.write_text("".join(f"{line}\n" for line in labelled.read_text().splitlines() if '"t-1"' in line))
    refused = run(alone, *given)
    assert refused.returncode == 2 and "All of their labelled rows were trained on" in refused.stderr
    assert "--predictions" in refused.stderr
    with alone.open("a") as file:
        for n, text in enumerate(TEXTS[:70]):
            file.write(
                json.dumps(
                    {
                        "id": f"new-{n}",
                        "task": "t-1",
                        "text": f"{text} {n}" if n else f"{text.upper()} .",
                        "level": n % 5,
                    }
                )
            )
            file.write("\n")
    done = run(alone, labelled, *given)
    assert done.returncode == 0, done.stderr
    assert "left out: 120 rows that were trained on by the adapter that scored them" in done.stdout
    assert "1 rows have a text that the adapter was trained on, under another id, and count" in done.stdout
    assert (
        "190 rows were scored by the live versions: true only if" in done.stdout and "not known of t-2" in done.stdout
    )
    (store.folder / "origin.json").touch()
    assert "follows a store in a bucket" in run(alone, *given).stderr


def test_failing_task_alone_goes_to_people(
    own_repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """t-1 is right in nine of ten rows, t-2 by chance; of t-4 there are too few rows, which changes nothing."""
    random, engine, store = np.random.default_rng(1), Engine.open(own_repository), Store(own_repository / "store")
    rows = []
    for task, right, count in (("t-1", 0.99, 400), ("t-2", 0.4, 200), ("t-4", 0.9, 8)):
        files, levels = PackageFiles(store.package_folder(store.manifest().tasks[task])), TASKS[task][1]
        for n in range(count):
            human = int(random.integers(levels))
            level, second = (human if random.random() < p else int(random.integers(levels)) for p in (right, 0.8))
            shares = tuple(np.where(np.arange(levels) == level, 0.9, 0.1 / (levels - 1)).tolist())
            adapter = adapter_digest(files)
            rows.append(row_of(f"{n}", task, human, second, text=None, probabilities=shares, adapter=adapter))

    def routes(gate: str) -> tuple[Calibration, set[str]]:
        rules = read_policy(policy(tmp_path, f"[target]\nexact = 0.3\n[rows]\nnew = 0\nown = 5\n{gate}"))
        made = calibrate_tasks(engine, store, rules, rows_of(*rows))
        return made, {name for name, d in made.decisions.items() if d.threshold and d.threshold.least is None}

    made, to_people = routes("[gate]\n")
    assert {name: str(verdict) for name, (verdict, _) in made.verdicts.items()} == {
        "t-1": "PASS", "t-2": "FAIL", "t-4": "NOT ENOUGH ROWS"
    }  # fmt: skip
    assert to_people == {"t-2"} and made.verdicts["t-2"][1][0] == "QWK ≥ 0.70"
    of_json = json.loads(json.dumps(calibration_view.values_of(made, {}, False)["tasks"]))
    assert {of["task"]: of["verdict"] for of in of_json}["t-2"] == "FAIL"
    calibration_view.show(made, {}, None)
    said = capsys.readouterr().out
    assert "t-2: people get all its responses for its verdict ([gate] verdict): FAIL: QWK ≥ 0.70" in said
    assert routes("[gate]\nverdict = 'not enough rows'\n")[1] == {"t-2", "t-4"}
    assert routes("[gate]\nverdict = 'off'\n")[1] == set()
    (tmp_path / "c.toml").write_text('[[criterion]]\nstatistic = "exact"\nat_least = 0.1\nsource = "ours"\n')
    assert routes("[gate]\ncriteria = 'c.toml'\n")[1] == set()


def test_a_task_whose_calibration_is_worse_keeps_a_temperature_of_1_and_stops_no_other(own_repository: Path) -> None:
    """Many rows of t-2 say that the machine is timid, which the few of t-1 contradict."""
    engine, store = Engine.open(own_repository), Store(own_repository / "store")

    def right(task: str, count: int, wrong: int) -> list[Row]:
        """Return rows on which a machine that is sure by 0.6 is wrong in so many of ten."""
        shares = (0.6, *[0.4 / (TASKS[task][1] - 1)] * (TASKS[task][1] - 1))
        human = [int(3 * n % 10 < wrong) for n in range(count)]
        return [row_of(f"{n}", task, level, None, text=None, probabilities=shares) for n, level in enumerate(human)]

    rows = right("t-1", 14, 7) + right("t-2", 400, 1)
    made = calibrate_tasks(engine, store, ScoringPolicy(), of_live(store, *rows))
    assert list(made.worse) == ["t-1"] and made.worse["t-1"][1] > 0
    assert {change.task for change in publish(engine, store, made)} == {"t-1", "t-2"}
    temperatures = {name: decision.temperature for name, decision in made.decisions.items()}
    assert temperatures["t-1"] == Temperature(1.0, "none", 14)
    assert temperatures["t-2"] and temperatures["t-2"].value < 0.9 and temperatures["t-2"].source == "own"


def test_one_level_goes_to_people(own_repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The machine gives t-1 one level, which is right in nine of ten rows."""
    engine, store, levels = Engine.open(own_repository), Store(own_repository / "store"), TASKS["t-1"][1]
    shares = (1 - 0.02 * (levels - 1), *[0.02] * (levels - 1))
    rows = [row_of(f"{n}", "t-1", int(n % 10 == 0), None, "read.csv, line 1", None, shares) for n in range(200)]

    def calibrate(text: str) -> Calibration:
        rules = read_policy(policy(tmp_path, f"[target]\nexact = 0.6\n{text}"))
        return calibrate_tasks(engine, store, rules, of_live(store, *rows))

    kept = calibrate('one_level = "keep"\n')
    assert [t.share for d in kept.decisions.values() if (t := d.threshold)] == [0.0]
    made = calibrate("")
    assert [(t.least, t.share, t.reason) for d in made.decisions.values() if (t := d.threshold)] == [
        (None, 1.0, "LOW_CONFIDENCE")
    ]
    assert made.one_level == {"t-1": 1.0}
    calibration_view.show(made, {}, None)
    said = capsys.readouterr().out
    assert "t-1: the machine gives one level to 100% of its rows" in said and '[target] one_level = "keep"' in said


def test_rows_that_a_decision_rests_on_are_in_the_json(own_repository: Path, tmp_path: Path) -> None:
    engine, store, random = Engine.open(own_repository), Store(own_repository / "store"), np.random.default_rng(6)
    levels = TASKS["t-1"][1]
    rows = []
    for n in range(160):
        right = random.uniform(0.5, 0.99)
        shares = [(1 - right) / (levels - 1)] * levels
        shares[n % 2] = right
        human = n % 2 if random.random() < right else 1 - n % 2
        desk = {} if n < 60 else {"chosen_by": "sample"}
        where = f"{'old' if n < 60 else 'read'}.csv, line {n}"
        rows.append(row_of(str(n), "t-1", human, None, where, None, tuple(shares), **desk))
    rules = read_policy(policy(tmp_path, "[target]\nexact = 0.8\n[rows]\nown = 100\n"))
    made = calibrate_tasks(engine, store, rules, of_live(store, *rows))
    (as_json,) = calibration_view.values_of(made, {}, False)["tasks"]
    assert as_json["origins"] == {"old.csv": 60, "sample of read.csv": 100}


def test_labels_of_files_count_and_predictions_with_others_are_counted(tmp_path: Path) -> None:
    columns = LabelColumns(student="who")
    file = [{"id": "a", "task": "t", "text": "x", "level": 2, "second": 1, "who": "ann"}]
    file.append({"id": "b", "task": "t", "text": "y", "level": 1, "who": None, "chosen_by": "validity"})
    predicted = [{"id": "a", "task": "t", "level": 1, "second_level": None, "probabilities": [0.2, 0.3, 0.5]}]
    file.append({"id": "d", "task": "t", "text": "z", "level": 1, "who": "eve"})
    predicted.append(predicted[0] | {"id": "d", "second_level": 2})  # a second reading in one of both is no other label
    predicted.append(predicted[0] | {"id": "c", "student": "bob", "chosen_by": "read_behind", "probability": 0.2})
    for name, rows in (("l.jsonl", file), ("p.jsonl", predicted)):
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    labelled = read_labelled([tmp_path / "l.jsonl"], tmp_path / "p.jsonl", columns, {})
    row, also, alone = each(labelled)
    assert (row.level, row.second, row.student, row.probabilities) == (2, 1, "ann", (0.2, 0.3, 0.5))
    assert (also.id, also.second) == ("d", 2)
    assert (alone.student, alone.chosen_by, alone.weight) == ("bob", "read_behind", 5)
    assert (len(labelled.left_out[RELABELLED]), len(labelled.left_out)) == (1, 2)
    for line in predicted[:2]:
        line["text_check"] = text_check({"a": " x", "d": "z"}[str(line["id"])])
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in predicted))
    assert len(read_labelled([tmp_path / "l.jsonl"], tmp_path / "p.jsonl", columns, {})) == 3
    predicted[1]["text_check"] = text_check("of another year")
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in predicted))
    with pytest.raises(InputError, match=r"line 3: .*line 2 has another text for id 'd' of t"):
        read_labelled([tmp_path / "l.jsonl"], tmp_path / "p.jsonl", columns, {})
    later = {"id": "d", "task": "t", "text": "of another year", "level": 0, "administration": "2027"}
    (tmp_path / "later.jsonl").write_text(json.dumps(later) + "\n")
    files = [tmp_path / "l.jsonl", tmp_path / "later.jsonl"]
    for order in (files, files[::-1]):  # the prediction is that of the row that has its text
        both = each(read_labelled(order, tmp_path / "p.jsonl", replace(columns, student=""), {}))
        assert {row.text for row in both if row.id == "d" and row.probabilities} == {"of another year"}
    with pytest.raises(InputError, match="has no column pupil"):
        read_labelled([tmp_path / "l.jsonl"], None, LabelColumns(student="pupil"), {})


def test_routed_rows_alone_are_refused(own_repository: Path, labelled: Path, tmp_path: Path) -> None:
    given = ("--repository", own_repository, "--policy", policy(tmp_path, "[target]\nhuman_share = 0.5\n"))
    assert run(labelled, *given).returncode == 0
    rows = [json.loads(line) | {"chosen_by": "route"} for line in labelled.read_text().splitlines()]
    routed, desk = tmp_path / "routed.jsonl", tmp_path / "desk.jsonl"
    routed.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = run(routed, *given, "--dry-run")
    assert done.returncode == 2
    assert "none stands for the rows that the machine keeps" in done.stderr
    partly = rows[:1] + [{**row, "chosen_by": None} for row in rows[1:] if row["task"] != rows[0]["task"]]
    desk.write_text("".join(json.dumps(row) + "\n" for row in partly))
    done = run(desk, *given, "--dry-run")
    assert done.returncode == 0 and "if any. Their labelled rows were read since" in done.stdout
    assert f"have those rows read: {rows[0]['task']}\n" in done.stdout
    for number, row in enumerate(rows):
        row |= {} if number % 2 else {"chosen_by": "read_behind", "probability": 0.25}
    desk.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = run(desk, *given, "--dry-run")
    assert done.returncode == 0, done.stderr


def test_routed_rows_count_by_the_version_that_sent_them(own_repository: Path, labelled: Path, tmp_path: Path) -> None:
    engine, store = Engine.open(own_repository), Store(own_repository / "store")
    read = read_labelled([labelled], None, LabelColumns(), {}).by_task()["t-1"]
    rows = [cells(row) for row in each(read)]

    def calibrate(target: str, rows: list[Row]) -> Calibration:
        return calibrate_tasks(engine, store, read_policy(policy(tmp_path, f"[target]\n{target}\n")), rows_of(*rows))

    bare = store.manifest().tasks["t-1"]
    publish(engine, store, calibrate("exact = 0.999", rows))
    everyone = store.manifest().tasks["t-1"]
    publish(engine, store, calibrate("human_share = 0.5", rows))
    half = store.manifest().tasks["t-1"]
    by_everyone, by_half, by_lost, by_any = (
        [{**row, "chosen_by": "route", "version": version} for row in rows]
        for version in (everyone, half, "c" * 64, None)
    )
    for live in (half, everyone, bare):
        if store.manifest().tasks["t-1"] != live:
            store.rollback("t-1", live)
        assert calibrate("exact = 0.7", by_everyone).rows.tasks["t-1"].count == len(rows)
        for refused in (by_half, by_lost, by_any):
            with pytest.raises(InputError, match="none stands for the rows that the machine keeps"):
                calibrate("exact = 0.7", refused)
        mixed = calibrate("exact = 0.7", by_everyone[:60] + by_half[60:])
        assert (mixed.rows.tasks["t-1"].count, _count(mixed)) == (60, len(rows) - 60)
        predicted = [{**row, "probabilities": (0.2,) * 5} for row in by_half[60:]]  # not of the live adapter
        mixed = calibrate("exact = 0.7", by_everyone[:60] + predicted)
        assert (mixed.rows.tasks["t-1"].count, mixed.reasons.get("t-1")) == (60, None)


def test_rows_read_on_another_scale_are_left_out(own_repository: Path, tmp_path: Path) -> None:
    backbone, store = Backbone.open(own_repository / "backbone" / "1"), Store(own_repository / "store")
    five = store.manifest().tasks["t-1"]
    store.add([make_adapter(tmp_path / "t-1", backbone.spec, "t-1", levels=3)], backbone)
    three, rules = store.manifest().tasks["t-1"], read_policy(policy(tmp_path))
    rows = [row_of(f"{n}", "t-1", n % 3, None, text=text) for n, text in enumerate(TEXTS[:60])]
    old, new = [{**row, "version": five} for row in rows[:20]], [{**row, "version": three} for row in rows[20:]]
    mixed = calibrate_tasks(Engine.open(own_repository), store, rules, rows_of(*(old + new)))
    assert (mixed.rows.tasks["t-1"].count, _count(mixed)) == (40, 20)
    alone = calibrate_tasks(Engine.open(own_repository), store, rules, rows_of(*old))
    assert (alone.reasons["t-1"], _count(alone)) == (CalibrationReason.NO_ROW_LEFT, 20)


def test_after_a_hold_only_labels_read_since_then_count(own_repository: Path, tmp_path: Path) -> None:
    store, rules, engine = Store(own_repository / "store"), read_policy(policy(tmp_path)), Engine.open(own_repository)
    rows = [row_of(f"{n}", "t-1", n % 3, None, text=text) for n, text in enumerate(TEXTS[:60])]
    plain = calibrate_tasks(engine, store, rules, rows_of(*rows))
    assert plain.rows.tasks["t-1"].count == 60, "in quiet times all labels count, with a date or without"
    publish(engine, store, plain)
    run_here("tasks", "hold", "t-1", "--by", "A. Lopez", "--store", own_repository / "store")
    today, before = date.today().isoformat(), (date.today() - timedelta(days=2)).isoformat()
    old = [{**row, "decided_at": f"{before}T23:59:59+00:00"} for row in rows[:20]]
    new = [{**row, "decided_at": f"{today}T23:59:59+00:00"} for row in rows[40:]]
    mixed = calibrate_tasks(engine, store, rules, rows_of(*old, *rows[20:40], *new))
    assert mixed.rows.tasks["t-1"].count == 20
    assert sorted(map(len, mixed.rows.left_out.values())) == [20, 20] and today in " ".join(mixed.rows.left_out)
    with pytest.raises(InputError, match="t-1"):
        calibrate_tasks(engine, store, rules, rows_of(*old, *rows[20:40]))
    earlier = calibrate_tasks(engine, store, rules, rows_of(*old, *new), since=date.fromisoformat(before))
    assert earlier.rows.tasks["t-1"].count == 40


def _count(calibration: Calibration) -> int:
    """Return how many rows a calibration leaves out."""
    return sum(map(len, calibration.rows.left_out.values()))


class Counting:
    """A runner that counts the rows it computes."""

    def __init__(self, runner: BackboneRunner) -> None:
        self._runner, self.rows = runner, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runner, name)

    def run(self, inputs: RowInputs, tables: Any, *, pooled: bool = False) -> Outputs:
        self.rows += len(inputs.input_ids)
        return self._runner.run(inputs, tables, pooled=pooled)


def test_each_row_is_computed_once_at_most(own_repository: Path, tmp_path: Path) -> None:
    backbone, store = Backbone.open(own_repository / "backbone" / "1"), Store(own_repository / "store")
    runner = Counting(REFERENCE.make(backbone))
    engine, predicted = Engine(backbone, store, cast(BackboneRunner, runner)), [0.2] * 5
    rows = [
        row_of(f"{n}", "t-1", n % 5, None, text=text, probabilities=predicted if n < 30 else None)
        for n, text in enumerate(TEXTS)
    ]
    rows += [row_of(f"p{n}", "t-1", n % 5, None, text=None, probabilities=predicted) for n in range(10)]
    made = calibrate_tasks(engine, store, read_policy(policy(tmp_path)), of_live(store, *rows))
    assert runner.rows == len(TEXTS)
    vectors = (scores := made.rows.tasks["t-1"].scores) and scores.pooled
    assert vectors is not None
    assert np.array_equal(vectors[: len(TEXTS)], engine.embed(TEXTS, ["t-1"] * len(TEXTS)))
    assert np.isnan(vectors[len(TEXTS) :]).all()
    plain = calibrate_tasks(engine, store, read_policy(policy(tmp_path, "")), of_live(store, *rows[:40]))
    assert (runner.rows, plain.rows.tasks["t-1"].count) == (2 * len(TEXTS) + 10, 40)


def test_a_task_without_probabilities_goes_to_people_and_is_named(own_repository: Path, tmp_path: Path) -> None:
    backbone, store = Backbone.open(own_repository / "backbone" / "1"), Store(own_repository / "store")
    folder = make_adapter(tmp_path / "points", backbone.spec, "points", rank=4, levels=1, seed=9)
    (folder / "task.json").write_text('{"id": "points", "levels": [0, 1, 2]}')
    store.add([folder], backbone)
    rows = "".join(
        json.dumps({"id": n, "task": "points", "text": t, "level": n % 3}) + "\n" for n, t in enumerate(TEXTS)
    )
    (tmp_path / "rows.jsonl").write_text(rows)
    done = run(tmp_path / "rows.jsonl", "--repository", own_repository, "--policy", policy(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "1 tasks have no confidence; a target sends all their responses to people: points" in done.stdout
    assert "left out: 120 rows that are of a task whose head gives one value and no probabilities" in done.stdout
    row = Engine.open(own_repository).score(["router sent"], ["points"])[0]
    assert (row.ok, row.confidence, row.level_range, row.route) == (True, None, None, "human:LOW_CONFIDENCE")


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ([0.2, 0.2, 0.2, 0.2, float("nan")], "are not numbers from 0 to 1 that sum to 1"),
        ([0.5, 0.5, 0.5, -0.5, 0.0], "are not numbers from 0 to 1 that sum to 1"),
        ([0.2, 0.2], "2 probabilities, but t-1 has 5 levels"),
        ("0.2 0.8", "probabilities is not a list of numbers"),
        ([0.2, None], "probabilities is not a list of numbers"),
    ],
)
def test_wrong_probabilities_are_refused(own_repository: Path, tmp_path: Path, given: Any, why: str) -> None:
    rows, store = [{"id": "a", "task": "t-1", "level": 0, "probabilities": given}], Store(own_repository / "store")
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(InputError, match=why):
        known = read_labelled([], tmp_path / "p.jsonl", LabelColumns(), {})
        live = store.manifest().tasks["t-1"]
        known = known.plus(adapter=codes_of([adapter_digest(PackageFiles(store.package_folder(live)))]))
        calibrate_tasks(Engine.open(own_repository), store, ScoringPolicy(), known)


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"id": "x", "task": "no-task", "text": "a", "level": 0}, "'no-task' is not a live task of this store"),
        ({"id": "x", "task": "what he wrote", "text": "t-3", "level": 0}, "line 1: task is not a task's id"),
        ({"id": "x", "task": "t-3", "text": "a", "level": 2}, "level 2, but t-3 has levels 0 to 1"),
        ({}, "no labelled rows: name files of them"),
        (
            {"id": "x", "task": "t-3", "text": "a", "level": None},
            "no labelled rows: rows.jsonl:1: have no level of a person",
        ),
    ],
)
def test_unusable_row_stops_everything(own_repository: Path, tmp_path: Path, row: dict[str, Any], why: str) -> None:
    (tmp_path / "rows.jsonl").write_text(f"{json.dumps(row)}\n" if row else "")
    before = Store(own_repository / "store").manifest()
    done = run(tmp_path / "rows.jsonl", "--repository", own_repository, "--policy", policy(tmp_path))
    assert (done.returncode, Store(own_repository / "store").manifest()) == (2, before)
    assert why in done.stderr


def test_the_example_policy_calibrates_tasks_that_have_attempts(own_repository: Path, labelled: Path) -> None:
    with labelled.open("a") as file:
        file.writelines(json.dumps({"id": n, "task": "t-3", "text": " ", "level": 0}) + "\n" for n in range(40))
    given = ("--repository", own_repository, "--policy", ROOT / "examples" / "policy.toml")
    done = run(labelled, *given)
    assert done.returncode == 0, done.stderr
    assert "3 tasks are calibrated" in done.stdout
    assert "1 tasks have no row that can be used; people get all of their responses, or the machine" in done.stdout
    others = sorted(Store(own_repository / "store").manifest().tasks.keys() - {"t-1", "t-2", "t-3"})
    assert f"{len(others)} tasks are live and NOT calibrated, as they have no labelled rows" in done.stdout
    (row,) = Engine.open(own_repository).score(["router sent the packet"], ["t-3"])
    assert (row.ok, row.confidence, row.route) == (True, None, "human:NEW_TASK")
    again = run(labelled, *given, "--dry-run")
    assert "1 tasks keep their last calibration, as all of their rows are left out: t-3" in again.stdout


def test_a_task_that_says_untrained_goes_to_people_whatever_the_policy(own_repository: Path, tmp_path: Path) -> None:
    engine, store = Engine.open(own_repository), Store(own_repository / "store")
    spec = engine.backbone.spec
    store.add([make_adapter(tmp_path / "new", spec, "new", task_json={"untrained": True})], engine.backbone)
    rows = [row_of(str(n), "new", n % 3, None, text=text) for n, text in enumerate(TEXTS[:40])]
    for text in ("", "[target]\nhuman_share = 0.1\n[rows]\nnew = 0\nown = 1\n"):
        rules = read_policy(policy(tmp_path, text))
        publish(engine, store, calibrate_tasks(engine, store, rules, rows_of(*rows)))
        (scored,) = Engine.open(own_repository).score(["the router"], ["new"])
        assert scored.route == "human:NEW_TASK" and scored.confidence is not None


def test_a_version_that_is_no_longer_live_is_not_replaced(own_repository: Path) -> None:
    from scoremux_engine.errors import StoreError

    engine, store = Engine.open(own_repository), Store(own_repository / "store")
    with pytest.raises(StoreError, match="task t-1 was changed meanwhile"):
        store.publish([], engine.backbone, before={"t-1": "0" * 64})


def test_a_task_with_few_labels_goes_to_people_until_it_is_calibrated(own_repository: Path, tmp_path: Path) -> None:
    engine, store = Engine.open(own_repository), Store(own_repository / "store")
    for labels in (29, 30):
        adapter = make_adapter(tmp_path / f"of-{labels}", engine.backbone.spec, f"of-{labels}")
        trained = [row_of(f"r{n % 20}", "t", 0, None, text=f"text {n}") for n in range(labels)]
        (adapter / "trained.json").write_text(TrainedRows.of(rows_of(*trained)).to_json())
        store.add([adapter], engine.backbone)
    served = Engine.open(own_repository, uncalibrated="machine")
    routes = [scored.route for scored in served.score(["the router"] * 2, ["of-29", "of-30"])]
    assert routes == ["human:NEW_TASK", "machine"]
    rows = [row_of(str(n), "of-29", n % 3, None, text=text) for n, text in enumerate(TEXTS[:40])]
    rules = read_policy(policy(tmp_path, ""))
    publish(engine, store, calibrate_tasks(engine, store, rules, rows_of(*rows)))
    (scored,) = Engine.open(own_repository).score(["the router"], ["of-29"])
    assert scored.route == "machine"
    whole = (adapter / "trained.json").read_text()
    format_3, other = (json.dumps({**json.loads(whole), **change}) for change in ({"format": 3}, {"ids": ["r1"]}))
    for damaged in ('{"ids": 3}', "[" * 200_000, "", "[]", format_3, other, whole[:-3]):
        (adapter / "trained.json").write_text(damaged)
        with pytest.raises(PackageError, match=r"trained\.json"):
            store.add([adapter], engine.backbone)
