"""`scoremux tasks hold` and `release`, and the looks that calibrations count."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from making import TASKS
from scoremux_assess.labels.label_table import LabelTable
from scoremux_assess.labels.labelled_row import LabelledRow
from scoremux_calibrate.calibration import Calibration, calibrate_tasks, publish
from scoremux_client.errors import InputError
from scoremux_decide.policy import AgreementTarget, GatePolicy, RowsPolicy, ScoringPolicy
from scoremux_engine import Engine
from scoremux_engine.commands import tasks as app
from scoremux_engine.packages.package_files import PackageFiles
from scoremux_engine.store.store import Store
from scoremux_engine.store.upkeep import collect, verify

TEXTS = [f"router {word} the packet {n}" for n, word in enumerate(["sent", "lost", "bridge", "window"] * 30)]
OFF = GatePolicy(verdict="off")
POLICY = ScoringPolicy(target=AgreementTarget(exact=0.7, one_level="keep"), rows=RowsPolicy(own=100), gate=OFF)


def calibrated(repository: Path, wrong: int = 12) -> Calibration:
    """Publish a calibration of two tasks; people disagree with the machine in one of `wrong` rows."""
    engine, store = Engine.open(repository), Store(repository / "store")
    rows = []
    for task in ("t-1", "t-2"):
        for n, (text, scored) in enumerate(zip(TEXTS, engine.score(TEXTS, [task] * len(TEXTS)), strict=True)):
            level = scored.level if n % wrong else (scored.level + 1) % TASKS[task][1]
            rows.append(LabelledRow(f"{task}-{n}", task, level, None, f"labels.csv, line {n}", text))
    calibration = calibrate_tasks(engine, store, POLICY, LabelTable(rows))
    publish(engine, store, calibration)
    return calibration


def run(repository: Path, *words: str) -> str:
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, [*words, "--store", str(repository / "store")])
    if isinstance(result.exception, InputError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_hold_sends_to_people_what_the_machine_would_keep_and_a_release_takes_it_back(
    own_repository: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="t-1 has no calibration"):
        run(own_repository, "hold", "t-1", "--by", "A. Lopez")
    calibrated(own_repository)
    store, rows = Store(own_repository / "store"), (TEXTS[:40], ["t-1"] * 40)
    live, before = store.manifest().tasks, Engine.open(own_repository).score(*rows)
    assert "machine" in {row.route for row in before}
    wanted = [{"task": "t-1", "version": live["t-1"]}, {"task": "t-2", "version": "0" * 64}]
    (tmp_path / "today.json").write_text(json.dumps({"holds": wanted}), encoding="utf-8")
    run(own_repository, "hold", "--from", str(tmp_path / "today.json"), "--by", "A. Lopez")
    assert store.manifest().tasks["t-2"] == live["t-2"], "another version of t-2 was watched"
    held = Engine.open(own_repository).score(*rows)
    assert [row.route for row in held] == ["human:HELD" if row.route == "machine" else row.route for row in before]
    assert [(row.level, row.probabilities, row.confidence) for row in held] == [
        (row.level, row.probabilities, row.confidence) for row in before
    ]
    run(own_repository, "hold", "t-1", "--by", "A. Lopez")  # once more changes nothing
    assert not collect(store, keep_days=0).packages.keys() & {live["t-1"]}, "a release needs the version before"
    with pytest.raises(InputError, match="by their ids, or by a file"):
        run(own_repository, "hold", "t-2", "--from", str(tmp_path / "today.json"), "--by", "A. Lopez")
    run(own_repository, "release", "t-1", "--by", "B. Chen")
    assert store.manifest().tasks == live
    with pytest.raises(InputError, match="t-1 is not on hold"):
        run(own_repository, "release", "t-1", "--by", "B. Chen")
    lines = [(line.action, line.who) for line in store.history.entries("t-1")]
    assert lines[-2:] == [("hold", "A. Lopez"), ("release", "B. Chen")]


def test_a_calibration_counts_the_looks_at_a_promise_and_each_has_to_say_more(own_repository: Path) -> None:
    looks = [calibrated(own_repository, wrong).decisions["t-1"] for wrong in (12, 12, 11, 12, 7)]
    assert [len(decision.looks) for decision in looks] == [1, 1, 2, 2, 3], "the same rows are no further look"
    assert looks[-1].looks[0] == looks[0].looks[0]
    assert looks[0].looks[0].population == ("120 labels.csv",)
    first, again = looks[0].threshold, looks[3].threshold
    assert first == again, "rows that were tested before are tested as they were then"
    assert looks[0].expected is not None and 0 < looks[0].expected.error < 1
    assert replace(looks[1], arithmetic=None) == replace(looks[0], arithmetic=None)


def test_looks_count_by_rows_for_any_target_in_any_order_and_outlast_their_versions(own_repository: Path) -> None:
    """A shuffled file and another target are no new looks; rows that were added are one, also after `gc`."""
    engine, store = Engine.open(own_repository), Store(own_repository / "store")
    adapter = PackageFiles(store.package_folder(store.manifest().tasks["t-1"]))
    levels = [row.level for row in engine.score(TEXTS, ["t-1"] * len(TEXTS))]
    rows = [LabelledRow(f"{n}", "t-1", level, None, "a.csv, line 1", TEXTS[n]) for n, level in enumerate(levels)]

    def looks(exact: float, labelled: list[LabelledRow]) -> int:
        policy = ScoringPolicy(target=AgreementTarget(exact=exact))
        calibration = calibrate_tasks(engine, store, policy, LabelTable(labelled))
        publish(engine, store, calibration)
        return len(calibration.decisions["t-1"].looks)

    assert [looks(0.7, rows[:100]), looks(0.701, rows[:100]), looks(0.7, rows[99::-1])] == [1, 1, 1]
    assert looks(0.71, rows) == 2
    store.publish([adapter], engine.backbone)
    assert collect(store, keep_days=0).packages
    assert looks(0.7, rows[:90]) == 3 and looks(0.9, rows) == 3
    (removed,) = store.removed_looks().values()
    assert [look.population for look in removed] == [("100 a.csv",), ("120 a.csv",)]
    assert not list(verify(store))
