"""Commands that change a store's tasks and holds, and what they print."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from labelled import Row, labelled, rows_of
from making import TASKS, make_adapter
from scoremux_client.errors import InputError
from scoremux_decide.policy import AgreementTarget, GatePolicy, RowsPolicy, ScoringPolicy
from scoremux_engine import Engine
from scoremux_engine.commands import tasks as app
from scoremux_engine.errors import PackageError, StoreError
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.packages.package_files import PackageFiles
from scoremux_engine.store.store import Store
from scoremux_engine.store.upkeep import collect, verify
from scoremux_evidence.promise.calibration import Calibration, calibrate_tasks, publish


class Commands:
    """Runs commands on one store."""

    def __init__(self, store: Path, backbone: Path) -> None:
        self.store, self._backbone = Store(store), ["--backbone", str(backbone)]

    def run(self, command: str, *arguments: str | Path, status: int = 0) -> str:
        more = self._backbone if command in ("add", "import") else []
        line = [command, *map(str, arguments), "--store", str(self.store.folder), *more]
        result = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1"}).invoke(app, line)
        if isinstance(result.exception, PackageError | StoreError):
            raise result.exception
        assert result.exit_code == status, result.output
        self.warnings = result.stderr
        return result.stdout

    def json(self, command: str, *arguments: str | Path, status: int = 0) -> Any:
        return json.loads(self.run(command, *arguments, "--json", status=status))


@pytest.fixture
def commands(exported: Path, adapters: list[Path], tmp_path: Path) -> Commands:
    """A store of t-1 … t-4, t-1 in a second version."""
    commands = Commands(tmp_path / "store", exported / "backbone" / "1")
    commands.run("add", *adapters)
    commands.run("add", second(commands, tmp_path))
    return commands


def second(commands: Commands, tmp_path: Path, **changes: Any) -> Path:
    """Return an adapter folder of t-1 that is not its first version."""
    spec = Backbone.open(Path(commands._backbone[1])).spec
    rank, levels = TASKS["t-1"]
    return make_adapter(tmp_path / "second", spec, "t-1", rank=rank, levels=levels, seed=99, **changes)


def history(commands: Commands, task: str) -> list[tuple[str | None, str | None]]:
    return [(entry.before, entry.after) for entry in commands.store.history.entries(task)]


def test_add_dry_run_shows_what_add_does(commands: Commands, adapters: list[Path]) -> None:
    before = commands.store.manifest()
    dry = commands.json("add", *adapters, "--dry-run")
    assert [row["change"] for row in dry] == ["updated", "unchanged", "unchanged", "unchanged"]
    assert all(row["dry_run"] for row in dry)
    assert "nothing was changed (--dry-run)" in commands.run("add", *adapters, "--dry-run")
    assert commands.store.manifest() == before
    done = commands.json("add", *adapters)
    assert [{**row, "dry_run": True} for row in done] == dry


def test_add_shows_where_task_json_comes_from(commands: Commands, adapters: list[Path], tmp_path: Path) -> None:
    for name in ("t-1", "t-2"):
        shutil.copytree(next(path for path in adapters if path.name == name), tmp_path / "stock" / name)
        (tmp_path / "stock" / name / "task.json").unlink()
    line = ["add", *sorted((tmp_path / "stock").iterdir())]
    made_up = "id: the folder's name; levels 0 1 2 3 4: one for each output of the head"
    assert made_up in commands.run(*map(str, line))
    assert commands.json(*map(str, line))[0]["task_json"] == made_up
    assert "task_json" not in commands.json("add", *adapters)[0]


@pytest.mark.parametrize(("base", "warned"), [("org/other", True), ("/home/x/{source}", False), ("", False)])
def test_add_warns_of_adapters_of_another_base(commands: Commands, tmp_path: Path, base: str, warned: bool) -> None:
    source = Backbone.open(Path(commands._backbone[1])).spec.source
    named = {"base_model_name_or_path": base.format(source=source)}
    commands.run("add", second(commands, tmp_path, config=named))
    warning = f"1 of the adapters say that they were trained on org/other, and the backbone is an export of {source}"
    assert (warning in commands.warnings) == warned


def test_add_refuses_other_weights_and_warns_of_texts_that_training_cut(commands: Commands, tmp_path: Path) -> None:
    spec = Backbone.open(Path(commands._backbone[1])).spec
    folder = second(commands, tmp_path, config={"base_model_name_or_path": spec.source})  # whose name shows nothing
    for weights in ("0" * 64, spec.weights):
        (folder / "README.md").write_text(f"---\nbase_model_sha256: {weights}\n---\n", encoding="utf-8")
        if weights != spec.weights:
            with pytest.raises(PackageError, match=f"{weights}, and the backbone is an export of {spec.weights}"):
                commands.run("add", folder)
    config = json.loads((folder / "adapter_config.json").read_text()) | {"base_model_name_or_path": "org/other"}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    commands.run("add", folder)
    assert "trained on" not in commands.warnings, "the weights say more than the name"
    folder, tokenizer = second(commands, tmp_path), Path(commands._backbone[1]) / "tokenizer.json"
    for limit, warned in ((32, True), (64, False), (512, False)):
        cut = {"max_length": limit, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
        (folder / "tokenizer.json").write_text(json.dumps({**json.loads(tokenizer.read_text()), "truncation": cut}))
        commands.run("add", folder)
        warning = "tokenizer.json of 1 of the adapters cuts texts at 32 tokens, the backbone at 64: if"
        assert (warning in commands.warnings) == warned


def test_terminal_codes_in_a_question_are_harmless(commands: Commands, tmp_path: Path) -> None:
    question = "\x1b[2J[red]why[/red] :smile: \r\n?"
    commands.run("add", second(commands, tmp_path, task_json={"question": question}))
    for shown in (commands.run("list"), commands.run("show", "t-1")):
        assert "\x1b" not in shown
        assert "[red]why[/red] :smile:" in shown
    assert commands.json("show", "t-1")["question"] == question


def test_show_describes_one_version(commands: Commands) -> None:
    live = commands.store.manifest().tasks["t-1"]
    first = history(commands, "t-1")[0][1]
    assert first is not None
    shown = commands.json("show", f"t-1@{first[:12]}")
    _, levels = TASKS["t-1"]
    assert (shown["id"], shown["question"], shown["language"]) == ("t-1", "Why?", "en")
    assert shown["levels"] == [float(level) for level in range(levels)]
    files = commands.store.package_folder(first).iterdir()
    assert shown["bytes"] == sum(path.stat().st_size for path in files)
    assert (shown["version"], shown["live"]) == (first, False)
    assert shown["versions"] == sorted([first, live])
    assert commands.json("show", "t-1")["live"] is True
    assert first in commands.run("show", "t-1")


def test_history_rollback_retire(commands: Commands) -> None:
    (_, first), (_, live) = history(commands, "t-1")
    assert "updated" in commands.run("rollback", "t-1")
    assert str(live)[:12] in commands.run("rollback", "t-1", "--to", str(live)[:8])
    assert commands.run("retire", "t-1", "t-2").count("retired") == 2
    assert history(commands, "t-1")[2:] == [(live, first), (first, live), (live, None)]
    assert "9 changes" in commands.run("history")
    assert set(commands.store.manifest().tasks) == {"t-3", "t-4"}


def test_gc_verify(commands: Commands) -> None:
    first = history(commands, "t-1")[0][1]
    assert "package" not in commands.run("gc")
    for _ in range(2):
        gone = commands.run("gc", "--keep-days", "0", "--dry-run")
        assert "package" in gone and str(first)[:24] in gone and "bytes would be freed" in gone
    assert "bytes were freed" in commands.run("gc", "--keep-days", "0")
    assert "4 packages, 0 problems" in commands.run("verify")
    digest = commands.store.manifest().tasks["t-4"]
    (commands.store.package_folder(digest) / "task.json").write_text("{}")
    assert f"packages/{digest}" in commands.run("verify", status=1)


def test_a_version_is_copied_to_another_store_and_a_missing_store_is_named(commands: Commands, tmp_path: Path) -> None:
    other, digest = Commands(tmp_path / "other", Path(commands._backbone[1])), commands.store.manifest().tasks["t-1"]
    (arrived,) = other.json("add", shutil.copytree(commands.store.package_folder(digest), tmp_path / digest))
    assert (arrived["task"], arrived["change"], arrived["to"]) == ("t-1", "new", digest)
    assert "1 packages, 0 problems" in other.run("verify")
    none = Commands(tmp_path / "none", Path(commands._backbone[1]))
    for command in (["list"], ["show", "t"], ["history"], ["rollback", "t"], ["retire", "t"], ["gc"]):
        with pytest.raises(StoreError, match=f"{tmp_path}/none is not a store"):
            none.run(*command)


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
            rows.append(labelled(f"{task}-{n}", task, level, None, f"labels.csv, line {n}", text))
    calibration = calibrate_tasks(engine, store, POLICY, rows_of(*rows))
    publish(engine, store, calibration)
    return calibration


def run(repository: Path, *words: str) -> str:
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, [*words, "--store", str(repository / "store")])
    if isinstance(result.exception, InputError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def test_hold_sends_to_people_until_a_release(own_repository: Path, tmp_path: Path) -> None:
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
    rows = [labelled(f"{n}", "t-1", level, None, "a.csv, line 1", TEXTS[n]) for n, level in enumerate(levels)]

    def looks(exact: float, labelled: list[Row]) -> int:
        policy = ScoringPolicy(target=AgreementTarget(exact=exact))
        calibration = calibrate_tasks(engine, store, policy, rows_of(*labelled))
        publish(engine, store, calibration)
        return len(calibration.decisions["t-1"].looks)

    assert [looks(0.7, rows[:100]), looks(0.701, rows[:100]), looks(0.7, rows[99::-1])] == [1, 1, 1]
    read_twice = [row | {"second": float(row["level"])} for row in rows[:100]]
    assert looks(0.7, read_twice) == 1, "the promise is about the first reader"
    assert looks(0.71, rows) == 2
    store.publish([adapter], engine.backbone)
    assert collect(store, keep_days=0).packages
    assert looks(0.7, rows[:90]) == 3 and looks(0.9, rows) == 3
    (removed,) = store.removed_looks().values()
    assert [look.population for look in removed] == [("100 a.csv",), ("120 a.csv",)]
    assert not list(verify(store))
