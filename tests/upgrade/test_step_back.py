"""What the release before answers to files that today's code wrote: it reads them right, or refuses them.

server_config/README.md has the table in "One step back".
"""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import earlier_release
import postgres
from making import Once
from serving import SCOREMUX, serving

pytestmark = pytest.mark.nightly
FILES = earlier_release.FILES
LONG_TRAIN = "folds = 2\n[recipe]\nepochs = 400\nrank = 4\n"
TRAIN = ("train", "labelled.csv", "--backbone", "model", "--config", "long.toml", "--out")
KEPT = ("--keep", "administration", "--keep", "school", "--column", "student=student")
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def old(once: Once) -> str:
    return earlier_release.command(once)


@pytest.fixture
def files(once: Once, tmp_path: Path) -> Path:
    """Files of today's code; the backbone is that of the release before, as from a backup."""

    def make(folder: Path) -> None:
        program = [sys.executable, FILES.parent / "make_files.py"]
        subprocess.run([*program, folder / "files"], check=True, capture_output=True)

    files = Path(shutil.copytree(once("todays-files", make) / "files", tmp_path / "files"))
    shutil.move(files / "repository/backbone", files / "todays-backbone")
    shutil.copytree(FILES / "repository/backbone", files / "repository/backbone")
    return files


@pytest.fixture
def run(files: Path) -> Run:
    def command(program: str, *words: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run([program, *map(str, words)], cwd=files, capture_output=True, text=True)

    return command


@pytest.mark.parametrize(
    "words",
    [
        ("tasks", "history", "--store", "repository/store"),
        ("calibrate", "labelled.csv", "--repository", "before", "--policy", "policy.toml", "--dry-run"),
    ],
    ids=" ".join,
)
def test_release_before_reads_what_today_reads(files: Path, run: Run, old: str, words: tuple[str, ...]) -> None:
    shutil.copytree(FILES / "repository", files / "before")
    before, today = run(old, *words), run(SCOREMUX, *words)
    assert before.returncode == today.returncode == 0, before.stderr
    assert words[0] == "calibrate" or today.stdout.split() == before.stdout.split()


@pytest.mark.parametrize("truth", ["labelled.csv", "of-desk.jsonl"])
def test_release_before_finds_the_figures_of_today(files: Path, run: Run, old: str, truth: str) -> None:
    assert run(SCOREMUX, "review", "export", "--labelled", "of-desk.jsonl", "--database", "desk.db").returncode == 0
    found = []
    for program in (old, SCOREMUX):
        ended = run(program, "evaluate", "job", "--truth", truth, "--out", "figures.json")
        assert ended.returncode == 0, ended.stderr
        figures = json.loads((files / "figures.json").read_text())
        of_tasks = (one for one in figures if one["task"] in ("bridge", "tree") and not one["group"])
        found.append({(one["task"], one["statistic"]): (one["n"], one["value"]) for one in of_tasks})
    before, today = found
    assert before.keys() & today.keys() >= {("tree", name) for name in ("exact", "qwk", "smd")}
    assert all(before[name] == today[name] for name in before.keys() & today.keys())


def test_release_before_lists_the_tokens_of_today(run: Run, old: str) -> None:
    listed = [run(program, "tokens", "list", "--tokens", "tokens.json").stdout for program in (old, SCOREMUX)]
    before, today = ({line.split()[1] for line in out.splitlines() if line.startswith("│")} for out in listed)
    assert before == today != set()


STORE = "manifest.json has format 2, and this version of scoremux reads format 1"
DESK = "the database desk.db was made by another version of scoremux"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("serve --repository repository --set watch_port=0", STORE),
        ("tasks verify --store repository/store", STORE),
        ("tasks hold bridge --by me --store repository/store", STORE),
        ("tasks rollback bridge --store repository/store", STORE),
        ("tasks gc --store repository/store", STORE),
        ("calibrate labelled.csv --repository repository --policy policy.toml", STORE),
        ("serve --repository measured --set watch_port=0", "backbone.json cannot be used: measured: unknown key"),
        ("calibrate labelled.csv --repository repository --policy gate.toml", "gate.verdict: unknown key"),
        ("review verify --database desk.db", DESK),
        ("api --database desk.db --folder batches --url localhost:1", DESK),
    ],
)
def test_release_before_refuses_what_it_would_misread(
    files: Path, run: Run, old: str, words: str, sentence: str
) -> None:
    shutil.copytree(FILES / "repository", files / "measured", ignore=shutil.ignore_patterns("backbone"))
    shutil.move(files / "todays-backbone", files / "measured/backbone")
    (files / "gate.toml").write_text('[gate]\nverdict = "off"\n')
    before = {path: path.read_bytes() for path in (files / "repository/store").rglob("*.json*")}
    refused = run(old, *words.split())
    assert refused.returncode in (1, 2) and sentence in refused.stdout + refused.stderr, refused
    assert "Traceback" not in refused.stderr
    assert {path: path.read_bytes() for path in (files / "repository/store").rglob("*.json*")} == before


@pytest.mark.skipif(postgres.programs() is None, reason="PostgreSQL is not installed")
def test_the_release_before_refuses_a_desk_in_postgresql(files: Path, run: Run, old: str) -> None:
    with postgres.running() as name:
        postgres.load(name, files / "desk.sql")
        assert "was made by another version of scoremux" in run(old, "review", "verify", "--database", name).stderr


def test_an_interrupted_job_resumes_in_the_release_before(files: Path, run: Run, old: str, tmp_path: Path) -> None:
    parts = {path: path.read_bytes() for path in files.glob("job-unfinished/part-*.parquet")}
    shutil.copytree(FILES / "repository", files / "before")
    with serving(files / "before", tmp_path, f"audit_log={tmp_path}/audit.jsonl", program=old) as server:
        words = ("score", "many.csv", "--out", "job-unfinished", "--part-rows", 64, *KEPT)
        ended = run(old, *words, "--url", server.endpoints.grpc_url)
    assert ended.returncode == 0, ended.stderr
    assert all(path.read_bytes() == before for path, before in parts.items())
    assert "6,000" in run(old, "evaluate", "job-unfinished", "--truth", "many.csv").stdout


def test_an_interrupted_training_begins_again_in_the_release_before(files: Path, run: Run, old: str) -> None:
    (files / "long.toml").write_text(LONG_TRAIN)
    assert run(old, *TRAIN, "training").returncode == run(old, *TRAIN, "new").returncode == 0
    for task in ("bridge", "tree"):
        name = f"{task}/adapter_model.safetensors"
        assert (files / "training" / name).read_bytes() == (files / "new" / name).read_bytes()


def test_server_of_before_survives_an_unreadable_publish(files: Path, run: Run, old: str, tmp_path: Path) -> None:
    shutil.copytree(FILES / "repository", files / "before")
    with serving(files / "before", tmp_path, f"audit_log={tmp_path}/audit.jsonl", program=old) as server:
        words = ("score", "labelled.csv", "--url", server.endpoints.grpc_url, *KEPT, "--out")
        assert run(old, *words, "before.jsonl").returncode == 0
        assert run(SCOREMUX, "tasks", "add", "adapters/bridge", "--store", "before/store").returncode == 0
        time.sleep(2)  # for the server to read the manifest
        assert run(old, *words, "after.jsonl").returncode == 0
    assert (files / "before.jsonl").read_bytes() == (files / "after.jsonl").read_bytes()
