"""Profiles: which there are, what is refused, and what `tune` measures and writes."""

import json
import os
from pathlib import Path

import pytest
from pydantic import BaseModel
from typer.testing import CliRunner

from computed import computed_precisions
from key_tables import PAGES, START, filled
from making import ROOT, TASKS
from scoremux.app import build
from scoremux_engine.model.provenance import processor_name
from scoremux_engine.runners.choose import DEFAULT, REFERENCE, RunnerChoice, choice_of
from scoremux_files.errors import ScoremuxError
from scoremux_files.settings import read_toml
from scoremux_server.errors import SetupError
from scoremux_server.profile import Profile, default_profile, names
from scoremux_server.serve import report
from scoremux_server.triton.repository import assemble
from scoremux_server.tuning.trials import Candidate, Trial, read_sample, rows_for, run_trials
from scoremux_server.tuning.tune import _closest, _reasons, _write_profile


def test_the_profiles_are_what_they_are_called_and_settings_come_last() -> None:
    assert names() == ["cpu", "cpu-reference", "gpu", "gpu-onnx", "gpu-tensorrt"]
    assert Profile.read("cpu-reference").choice == REFERENCE
    assert Profile.read("cpu").choice == Profile().choice == DEFAULT
    for name, backend in (("gpu-onnx", "onnxruntime"), ("gpu-tensorrt", "tensorrt")):
        profile = Profile.read(name)
        assert (profile.runner, profile.backend, profile.triton) == ("triton", backend, "/opt/tritonserver")
    assert Profile.read("gpu").choice == RunnerChoice("onnxruntime", "cuda")
    assert Profile.read("gpu", ["precision=tf32"]).choice.precision == "tf32"
    for name, precision in (("cpu", "tf32"), ("gpu", "int8"), ("gpu-onnx", "float16"), ("cpu-reference", "bfloat16")):
        with pytest.raises(SetupError, match="computes in float32"):
            Profile.read(name, [f"precision={precision}"])
    profile = Profile.read("cpu", ["threads=3", "start_timeout_s=1.5", "selftest=off", "bank_bytes = 1000000"])
    assert (profile.threads, profile.start_timeout_s, profile.selftest) == (3, 1.5, "off")
    assert profile.bank_bytes == 1_000_000


@pytest.mark.parametrize("name", names())
def test_a_profile_states_only_keys_that_differ_from_the_default(name: str) -> None:
    values = read_toml(ROOT / "server_config" / "profiles" / f"{name}.toml")
    known = {"runner": "openvino", "precision": "float32"}
    assert all(Profile.model_fields[key].default != value or key in known for key, value in values.items())


def test_a_file_of_ones_own_is_read_and_a_repositorys_is_the_default(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('runner = "openvino"\nprecision = "int8"\n')
    assert Profile.read(str(tmp_path / "mine.toml")).choice == RunnerChoice("openvino", precision="int8")
    assert default_profile(tmp_path) == "cpu" and choice_of(tmp_path) == DEFAULT
    (tmp_path / "profile.toml").write_text('precision = "int8"\nmicro_batch_tokens = 512\n')
    found = Profile.read(default_profile(tmp_path))
    assert (found.runner, found.precision, found.micro_batch_tokens) == ("openvino", "int8", 512)
    assert choice_of(tmp_path) == found.choice
    (tmp_path / "profile.toml").write_text('runner = "triton"\nbackend = "onnxruntime"\n')
    assert choice_of(tmp_path) == Profile.read(default_profile(tmp_path)).choice == REFERENCE


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("colour = 1", "unknown key colour; the keys are runner, backend"),
        ("threads = -1", "threads: Input should be greater than or equal to 0"),
        ('runner = "pytorch"', "runner: Input should be 'openvino', 'onnxruntime' or 'triton'"),
        ("grpc_port = 70000", "grpc_port: Input should be less than or equal to 65535"),
        ("threads = ", "is not TOML: Invalid value"),
        ('address = "0.0.0.0 --allow-http=false"', "address: String should match pattern"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(SetupError, match=sentence) as refused:
        Profile.read(str(tmp_path / "mine.toml"))
    assert "mine.toml" in str(refused.value)


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("colour=1", "unknown key colour"),
        ("threads", "--set wants key=value, not 'threads'"),
        ("address=localhost", "'localhost' is not an IP address"),
        ("watch_address=::1::", "'::1::' is not an IP address"),
        ("metrics_address=localhost", "metrics_address: .*'localhost' is not an IP address"),
        ("metrics_address=0.0.0.0 --x", "metrics_address: String should match pattern"),
        ("start_timeout_s=inf", "start_timeout_s: Input should be a finite number"),
        ("start_timeout_s=nan", "start_timeout_s: Input should be a finite number"),
        ("start_timeout_s=86401", "start_timeout_s: Input should be less than or equal to 86400"),
        ("notice_s=6", "unknown key notice_s"),
        ("address=", "address: String should have at least 1 character"),
        ("audit_key_file=/keys/audit", "audit_key_file is of no use without audit_log"),
        ("precision=auto", "precision: Input should be 'float32', 'tf32', 'float16', 'bfloat16' or 'int8'"),
        ("precision=int8", "the runner onnxruntime computes in float32, not int8"),
        ("runner=triton", "runner 'triton' and a backend other than 'none' go together"),
        ("backend=python", "runner 'triton' and a backend other than 'none' go together"),
    ],
)
def test_a_setting_that_does_not_fit_is_named(setting: str, sentence: str) -> None:
    with pytest.raises(SetupError, match=sentence):
        Profile.read("cpu-reference", [setting])


def test_unknown_profiles_gpus_of_openvino_and_a_metrics_address_of_its_own() -> None:
    assert Profile.read("cpu").metrics_address == Profile.read("cpu", ["metrics_address="]).metrics_address == ""
    assert Profile.read("cpu", ["metrics_address=0:0::1"]).metrics_address == "::1"
    with pytest.raises(SetupError, match="the runner openvino computes on the cpu, not on cuda"):
        Profile.read("cpu", ["device=cuda"])
    with pytest.raises(SetupError, match=r"unknown profile tpu; there are cpu, cpu-reference, gpu, gpu-onnx"):
        Profile.read("tpu")


def test_what_the_scorer_reads_is_passed_on() -> None:
    settings = ["micro_batch_tokens=512", "selftest=off", "audit_log=a.jsonl"]
    given = Profile.read("cpu", settings).scorer_parameters
    assert (given["micro_batch_tokens"], given["selftest"], given["uncalibrated"]) == ("512", "off", "human")
    assert given["audit_log"] == str(Path("a.jsonl").resolve()) and given["audit_key_file"] == ""


@pytest.mark.parametrize(("page", "model"), PAGES.items(), ids=lambda value: getattr(value, "name", ""))
def test_the_documented_keys_are_the_models(page: Path, model: type[BaseModel]) -> None:
    text = page.read_text(encoding="utf-8")
    assert text.count(START) == 1
    assert filled(text, model) == text, "run: python tests/support/key_tables.py"
    assert all(field.description for field in model.model_fields.values())


def test_report_writes_lines_as_they_are(tmp_path: Path) -> None:
    file = os.open(tmp_path / "out", os.O_WRONLY | os.O_CREAT)
    for line in ("the store [/data/store] is damaged", "[bold]" + "long " * 100, "ä \udcff", "x" * 9999, "last"):
        report(line, file)
    os.close(file)
    lines = (tmp_path / "out").read_text().splitlines()
    assert lines[:3] == ["the store [/data/store] is damaged", "[bold]" + "long " * 100, "ä ?"]
    assert lines[3:] == ["x" * 4095, "last"]


def test_report_waits_for_no_reader() -> None:
    reader, writer = os.pipe()
    for number in range(5000):
        report(f"{number} " + "x" * 1000, writer)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        numbers = [int(line.split()[0]) for line in pipe]
    assert numbers == list(range(len(numbers))) and 10 < len(numbers) < 100
    os.close((gone := os.pipe())[0])
    for file in (gone[1], os.open("/dev/full", os.O_WRONLY)):
        report("lost", file)
        os.close(file)


def test_a_repository_that_is_not_there_is_answered_with_adapters(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"nowhere holds no backbone: name your adapters with --adapters DIR, or run"):
        assemble(tmp_path / "models", tmp_path / "nowhere", tmp_path / "nowhere" / "store")


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


def test_tune_prefers_what_moves_fewer_levels_where_speeds_are_about_equal() -> None:
    float32, bfloat16, int8 = trial("float32", 10), trial("bfloat16", 24, changed=1), trial("int8", 25, changed=4)
    assert _closest(float32, [float32, bfloat16, int8]) is bfloat16
    assert _closest(float32, [float32, trial("bfloat16", 23), int8]) is int8


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
