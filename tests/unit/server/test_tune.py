"""`scoremux tune` measures every setting on the store's tasks and writes a profile; here on a tiny model."""

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from computed import computed_precisions
from making import TASKS
from scoremux.app import build
from scoremux_engine.model.provenance import openvino_arithmetic, processor_name
from scoremux_engine.runners.choose import REFERENCE, RunnerChoice, choice_of
from scoremux_files.errors import ScoremuxError
from scoremux_server.profile import Profile
from scoremux_server.serve import faster_hints
from scoremux_server.tuning.trials import Candidate, Trial, read_sample, rows_for, run_trials
from scoremux_server.tuning.tune import _reasons, _write_profile


def trial(precision: str, speed: float, changed: int = 0) -> Trial:
    levels = [1] * changed + [0] * (100 - changed)
    return Trial(RunnerChoice("openvino", precision=precision), [speed, speed * 9, 0.0], 1 << 20, levels)


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_precision_is_chosen_only_if_enough_rows_show_that_it_moves_few_levels(precision: str) -> None:
    """That no level of 96 rows moved does not show that fewer than 1 % do."""
    reference, tasks = trial("float32", 10), ["t-1"] * 100
    said = {
        (changed, most): list(_reasons(trial(precision, 90, changed), reference, tasks, most))
        for changed, most in ((0, 0.01), (0, 0.03), (2, 0.03), (2, 0.07))
    }
    assert said[0, 0.01] == ["0 of 100 levels differ, so up to 3.0% of all, and 1.0% are allowed"]
    assert said[0, 0.03] == said[2, 0.07] == [] and len(said[2, 0.03]) == 1


def test_setting_that_moves_levels_of_a_task_is_named_with_it() -> None:
    reference, moving = trial("float32", 10), trial("int8", 90, changed=3)
    tasks = ["t-1"] * 2 + ["t-2"] * 98
    assert moving.moved_tasks(reference, tasks, 0.05) == {"t-1": (2, 2)}
    assert moving.moved_tasks(reference, ["t-1", "t-2", "t-3", *tasks[3:]], 0.0) == {}
    assert reference.moved_tasks(reference, tasks, 0.0) == {}


def test_serve_names_precisions_that_may_be_faster() -> None:
    hint = "".join(faster_hints(Path("repo"), openvino_arithmetic("float32")))
    assert ("bf16, " in hint or "bf16 or " in hint) == ("bfloat16" in computed_precisions())
    assert ("x86-int8, " in hint) == (openvino_arithmetic("int8") == "x86-int8")
    assert list(faster_hints(Path("repo"), openvino_arithmetic("bfloat16"))) == []


def test_tuned_profile_names_its_machine_and_can_be_read(tmp_path: Path) -> None:
    reference, best = trial("float32", 10), trial("int8", 25, changed=1)
    path = _write_profile(tmp_path, best, reference)
    assert f"{processor_name()}, {len(os.sched_getaffinity(0))} cores" in path.read_text()
    assert "2.50 x the profile cpu-reference; 1 of 100 levels" in path.read_text()
    assert Profile.read(str(path)).choice == best.choice


def test_candidate_scores_its_rows(small_repository: Path) -> None:
    sample = read_sample(small_repository / "store", None)
    candidate = Candidate(small_repository, None, REFERENCE, sample)
    rows = rows_for(candidate, sample, seconds=0.001)
    (one,) = run_trials([candidate], rows, 64)
    candidate.close()
    assert len(one.rows_per_s) == 3
    assert len(one.levels) == 64
    assert all(level >= 0 for level in one.levels)
    assert one.peak_bytes > 1 << 20


def test_trial_texts_come_from_a_file_with_their_tasks(small_repository: Path, tmp_path: Path) -> None:
    store = small_repository / "store"
    (tmp_path / "rows.jsonl").write_text(
        '{"text": "one", "task": "t-2"}\n{"text": "two"}\n{"text": "3", "task": "x"}\n'
    )
    sample = read_sample(store, tmp_path / "rows.jsonl")
    rows = dict(zip(sample.texts, sample.tasks, strict=True))
    assert rows["one"] == "t-2"
    assert set(rows) == {"one", "two", "3"}
    assert set(rows.values()) <= set(TASKS)
    (tmp_path / "bad.jsonl").write_text('{"text": "a secret"}\nnot JSON\n')
    with pytest.raises(ScoremuxError, match=r"bad.jsonl, line 2: .*JSON") as refused:
        read_sample(store, tmp_path / "bad.jsonl")
    assert "secret" not in str(refused.value)
    (tmp_path / "rows.txt").touch()
    for name, message in (("absent.jsonl", "cannot be read"), ("rows.txt", "rows are read from")):
        with pytest.raises(ScoremuxError, match=message):
            read_sample(store, tmp_path / name)


@pytest.mark.parametrize("own", [True, pytest.param(False, marks=pytest.mark.nightly)], ids=["own texts", "made up"])
def test_tune_measures_prints_and_writes_a_profile(own_repository: Path, tmp_path: Path, own: bool) -> None:
    texts = tmp_path / "texts.jsonl"
    texts.write_text("".join(json.dumps({"text": f"the router {n}"}) + "\n" for n in range(120)))
    arguments = ["tune", str(own_repository), *(["--texts", str(texts), "--most-changed", "1"] if own else [])]
    done = CliRunner(env={"COLUMNS": "120"}).invoke(build(), arguments)
    assert done.exit_code == 0, done.output
    for word in ("onnxruntime float32", "openvino float32", "*: chosen", "ten million such responses take"):
        assert word in done.output
    chosen = Profile.read(str(own_repository / "profile.toml"))
    assert own or chosen.precision == "float32"
    assert ("made-up texts do not show" in done.output) == (not own and len(computed_precisions()) > 1)
    assert choice_of(own_repository).precision == chosen.precision
