"""The command `scoremux`: its subcommands, with and without the extras they need."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import typer

from making import NEEDS_EXPORT, make_adapter, make_spec
from scoremux.app import build, repeated, spread
from serving import run_here

# fmt: off
COMMANDS = {
    "api", "ask", "calibrate", "compare", "demo", "dossier", "evaluate", "export", "files", "front-door", "report",
    "review", "sample", "score", "selftest", "serve", "tasks", "tokens", "train", "tune", "watch",
}
EXTRAS = {
    "torch", "transformers", "peft", "onnx", "onnxscript", "pytriton", "onnxruntime", "openvino", "safetensors",
    "tokenizers", "ray", "sqlalchemy", "starlette", "uvicorn", "jinja2", "argon2", "psycopg",
    "fastapi", "orjson",
}
# fmt: on

VERSION = r"scoremux \d+\.\d+\S*, commit ([0-9a-f]{12}|unknown), Python 3\.\S+\n"
Ended = subprocess.CompletedProcess[str]

# Runs before everything else in a new interpreter; what it hides looks not installed to `import` and to `find_spec`.
HIDE = """
import sys
from importlib.machinery import PathFinder

class Hiding(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        hidden = name.partition(".")[0] in {hidden!r}
        return None if hidden else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Hiding
"""


def python(tmp_path: Path, code: str, *arguments: str | Path, hidden: Collection[str]) -> Ended:
    """Run code in an interpreter in which some modules look not installed."""
    (tmp_path / "site").mkdir(exist_ok=True)
    (tmp_path / "site" / "sitecustomize.py").write_text(HIDE.format(hidden=set(hidden)))
    path = os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")])
    words = [sys.executable, "-c", code, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": path, "COLUMNS": "200", "NO_COLOR": "1"}
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=240, check=False)


def run(tmp_path: Path, *arguments: str | Path, hidden: Collection[str] = ()) -> Ended:
    return python(tmp_path, "from scoremux.app import main; main()", *arguments, hidden=hidden)


def test_help_shows_commands_in_groups_and_needs_no_extra(tmp_path: Path) -> None:
    shown = run(tmp_path, "--help", hidden=EXTRAS)
    assert shown.returncode == 0, shown.stderr
    assert {line.split()[1] for line in shown.stdout.splitlines() if line.startswith("│ ")} >= COMMANDS
    titles = [line.split()[1] for line in shown.stdout.splitlines() if line.startswith("╭─ ")]
    assert [title for title in titles if title not in ("Options", "More")] == [
        "Try", "Build", "Serve", "Score", "Judge", "Operate"
    ]  # fmt: skip
    ended = run(tmp_path, "--version", hidden=EXTRAS - {"typer"})
    assert ended.returncode == 0 and re.fullmatch(VERSION, ended.stdout)


def leaves(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    yield name, command
    for sub, inner in getattr(command, "commands", {}).items():
        yield from leaves(f"{name} {sub}", inner)


def test_all_commands_are_registered_and_their_help_has_an_example() -> None:
    found = dict(leaves("scoremux", typer.main.get_command(build())))
    assert set(found.pop("scoremux").commands) == COMMANDS
    texts = {name: f"{command.help or ''} {command.epilog or ''}" for name, command in found.items()}
    without = [name for name, text in texts.items() if f"Example: {name} " not in text]
    assert without == []


ASK_ALL = """
import sys
from scoremux.app import main

for command in sys.argv[1:]:
    sys.argv = ["scoremux", command, "--help"]
    try:
        main()
    except SystemExit as ended:
        assert not ended.code, command
"""


def test_every_command_explains_itself_without_any_extra(tmp_path: Path) -> None:
    shown = python(tmp_path, ASK_ALL, *sorted(COMMANDS), hidden=EXTRAS)
    assert shown.returncode == 0, shown.stderr
    assert re.findall(r"Usage: scoremux ([\w-]+)", shown.stdout) == sorted(COMMANDS)


EXPORT = ("export", "backbone", "M", "--out", "out")
TASKS = ("tasks", "add", ".", "--store", "store")
SCORE = ("score", "in.csv", "--out", "out", "--url", "127.0.0.1:9")


@pytest.mark.parametrize(
    ("words", "hidden", "extra"),
    [
        (EXPORT, "torch", "export"),
        *(pytest.param(EXPORT, module, "export", marks=pytest.mark.nightly) for module in ("transformers", "peft")),
        (EXPORT, "onnxruntime", "serve"),
        (TASKS, "safetensors", "serve"),
        *((SCORE, module, "cli") for module in ("typer", "rich", "pyarrow")),
        ((*SCORE, "--engine", "ray"), "ray", "ray"),
    ],
)
def test_missing_module_is_answered_with_the_line_that_brings_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: Sequence[str], hidden: str, extra: str
) -> None:
    if words is EXPORT:
        pytest.importorskip("torch", reason=NEEDS_EXPORT)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.csv").write_text("task,text\nt,1\n")
    ended = run(tmp_path, *words, hidden=(hidden,))
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1] == f"scoremux: this command needs {hidden}: pip install 'scoremux[{extra}]'"
    assert not (tmp_path / "out").exists()


def test_serve_without_triton_answers_with_the_line_that_brings_it(tmp_path: Path) -> None:
    for name in ("backbone/1/backbone.json", "store/manifest.json"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    answer = run(tmp_path, "serve", "--repository", tmp_path, hidden=("pytriton",))
    assert answer.returncode == 2
    assert answer.stderr == "scoremux: no tritonserver is installed: pip install 'scoremux[serve]'\n"


def test_errors_are_one_line_and_status_two_and_unforeseen_ones_a_traceback(tmp_path: Path) -> None:
    answer = run(tmp_path, "evaluate", tmp_path / "gone.jsonl", "--truth", tmp_path / "gone.csv")
    assert answer.returncode == 2
    assert answer.stderr.startswith(f"scoremux: {tmp_path}/gone.jsonl cannot be read: ")
    assert answer.stderr.count("\n") == 1
    answer = run(tmp_path, "evaluate", "a.jsonl", "--truth", "b.jsonl", hidden=("csv",))
    assert answer.returncode == 1
    assert "ModuleNotFoundError: No module named 'csv'" in answer.stderr


def test_client_needs_nothing_but_the_base_install(tmp_path: Path) -> None:
    hidden = {*EXTRAS, "httpx", "typer", "rich", "pyarrow", "sklearn", "scipy", "prometheus_client", "pydantic"}
    names = "GrpcTransport, ScoringClient"
    code = f"from scoremux_client import {names}; ScoringClient('localhost:1').close()"
    ended = python(tmp_path, code, hidden=hidden)
    assert ended.returncode == 0, ended.stderr


def test_several_folders_may_follow_one_option() -> None:
    given = ["export", "backbone", "M", "--for", "a", "b/c", "--out", "repo", "x"]
    assert spread(given) == ["export", "backbone", "M", "--for", "a", "--for", "b/c", "--out", "repo", "x"]
    assert spread(["serve", "--adapters", "a", "--set", "k=v", "--adapters", "b", "c"]) == [
        *("serve", "--adapters", "a", "--set", "k=v", "--adapters", "b", "--adapters", "c")
    ]
    assert spread(["--for"]) == ["--for"] and spread([]) == []


def test_serve_adapters_without_export_names_the_extra(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason=NEEDS_EXPORT)
    folder = make_adapter(tmp_path / "t-1", make_spec(8), "t-1", config={"base_model_name_or_path": "org/model"})
    words = ("serve", *(f"--set={kind}_port=0" for kind in ("grpc", "http", "metrics", "watch")))
    done = run(tmp_path, *words, "--repository", tmp_path / "repo", "--adapters", folder, hidden={"torch", "peft"})
    assert done.returncode == 2
    assert "this command needs torch: pip install 'scoremux[export]'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("line", "option"),
    [
        ("evaluate scored --truth a.csv --truth=b.csv", "--truth"),
        ("tasks add a --store x --dry-run --store y", "--store"),
        ("serve --set a=1 --set b=2 --adapters a --adapters b --repository r", None),
        ("tasks add a --dry-run --dry-run --store x", None),
        ("", None),
    ],
)
def test_a_value_that_is_given_twice_is_refused(line: str, option: str | None) -> None:
    assert repeated(build(line.split()), line.split()) == option


def test_ask_at_a_closed_port_ends_at_once_with_the_address_as_typed() -> None:
    began = time.monotonic()
    ended = run_here("ask", "t-1", "a text", "--url", "localhost:1")
    assert ended.returncode == 2 and ended.stderr.startswith("scoremux: localhost:1: ") and "a text" not in ended.stderr
    assert time.monotonic() - began < 5
