"""The command `scoremux`: its subcommands, with and without the extras they need."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from making import make_adapter, make_spec
from scoremux_cli.app import build, spread

COMMANDS = {
    "calibrate",
    "compare",
    "evaluate",
    "export",
    "front-door",
    "report",
    "review",
    "score",
    "selftest",
    "serve",
    "tasks",
    "tokens",
    "train",
    "tune",
}
EXTRAS = {"torch", "transformers", "peft", "onnx", "onnxscript", "pytriton", "onnxruntime", "openvino"}
EXTRAS |= {"safetensors", "tokenizers", "ray", "sqlalchemy", "starlette", "uvicorn", "jinja2", "argon2", "psycopg"}

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


def run(tmp_path: Path, *arguments: str | Path, hidden: Collection[str] = ()) -> subprocess.CompletedProcess[str]:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(HIDE.format(hidden=set(hidden)))
    return subprocess.run(
        [sys.executable, "-c", "from scoremux_cli.app import main; main()", *map(str, arguments)],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")]),
            "COLUMNS": "200",
            "NO_COLOR": "1",
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_all_commands_are_registered() -> None:
    command = typer.main.get_command(build())
    assert set(command.commands) == COMMANDS  # type: ignore[attr-defined]


def test_help_lists_every_command_without_any_extra(tmp_path: Path) -> None:
    shown = run(tmp_path, "--help", hidden=EXTRAS)
    assert shown.returncode == 0, shown.stderr
    assert {line.split()[1] for line in shown.stdout.splitlines() if line.startswith("│ ")} >= COMMANDS


def test_help_shows_the_commands_in_groups_in_the_order_of_a_task(tmp_path: Path) -> None:
    shown = run(tmp_path, "--help").stdout
    titles = [line.split()[1] for line in shown.splitlines() if line.startswith("╭─ ")]
    assert [title for title in titles if title not in ("Options", "More")] == [
        "Build", "Serve", "Score", "Judge", "Operate"
    ]  # fmt: skip


def leaves(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    yield name, command
    for sub, inner in getattr(command, "commands", {}).items():
        yield from leaves(f"{name} {sub}", inner)


def test_the_help_of_every_command_has_an_example_of_it() -> None:
    found = dict(leaves("scoremux", typer.main.get_command(build())))
    del found["scoremux"]
    texts = {name: f"{command.help or ''} {command.epilog or ''}" for name, command in found.items()}
    without = [name for name, text in texts.items() if f"Example: {name} " not in text]
    assert without == []


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_explains_itself_without_any_extra(tmp_path: Path, command: str) -> None:
    shown = run(tmp_path, command, "--help", hidden=EXTRAS)
    assert shown.returncode == 0, shown.stderr
    assert f"Usage: scoremux {command}" in shown.stdout


@pytest.mark.parametrize("hidden", ["torch", "transformers", "peft", "onnxruntime"])
def test_export_without_its_extra_answers_with_the_line_that_brings_it(tmp_path: Path, hidden: str) -> None:
    answer = run(tmp_path, "export", "backbone", tmp_path, "--out", tmp_path / "out", hidden=(hidden,))
    extra = "serve" if hidden == "onnxruntime" else "export"
    assert answer.returncode == 2
    assert answer.stderr.splitlines()[-1] == f"scoremux: this command needs {hidden}: pip install 'scoremux[{extra}]'"


def test_tasks_without_its_extra_answers_with_the_line_that_brings_it(tmp_path: Path) -> None:
    answer = run(tmp_path, "tasks", "add", tmp_path, "--store", tmp_path / "store", hidden=("safetensors",))
    assert answer.returncode == 2
    assert answer.stderr == "scoremux: this command needs safetensors: pip install 'scoremux[serve]'\n"


def test_a_job_on_ray_without_its_extra_answers_with_the_line_that_brings_it(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("task,text\nt,1\n")
    words = ["score", tmp_path / "in.csv", "--out", tmp_path / "out", "--url", "127.0.0.1:9", "--engine", "ray"]
    answer = run(tmp_path, *words, hidden=("ray",))
    assert answer.returncode == 2
    assert answer.stderr == "scoremux: this command needs ray: pip install 'scoremux[ray]'\n"
    assert not (tmp_path / "out").exists()


def test_serve_without_triton_answers_with_the_line_that_brings_it(tmp_path: Path) -> None:
    for name in ("backbone/1/backbone.json", "store/manifest.json"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    answer = run(tmp_path, "serve", "--repository", tmp_path, hidden=("pytriton",))
    assert answer.returncode == 2
    assert answer.stderr == "scoremux: no tritonserver is installed: pip install 'scoremux[serve]'\n"


def test_an_error_of_ours_is_one_line_and_status_two(tmp_path: Path) -> None:
    answer = run(tmp_path, "evaluate", tmp_path / "gone.jsonl", "--truth", tmp_path / "gone.csv")
    assert answer.returncode == 2
    assert answer.stderr.startswith(f"scoremux: {tmp_path}/gone.jsonl cannot be read: ")
    assert answer.stderr.count("\n") == 1


def test_a_module_that_no_extra_brings_is_not_explained_away(tmp_path: Path) -> None:
    answer = run(tmp_path, "evaluate", "a.jsonl", "--truth", "b.jsonl", hidden=("csv",))
    assert answer.returncode == 1
    assert "ModuleNotFoundError: No module named 'csv'" in answer.stderr


@pytest.mark.parametrize("hidden", ["typer", "rich", "pyarrow"])
def test_the_base_install_alone_answers_with_the_line_that_brings_the_command(tmp_path: Path, hidden: str) -> None:
    (tmp_path / "in.csv").write_text("task,text\nt,1\n")
    words = ["score", tmp_path / "in.csv", "--out", tmp_path / "out", "--url", "127.0.0.1:9"]
    answer = run(tmp_path, *words, hidden=(hidden,))
    assert answer.returncode == 2
    assert answer.stderr == f"scoremux: this command needs {hidden}: pip install 'scoremux[cli]'\n"


def test_the_client_alone_needs_nothing_but_the_base_install(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    hidden = {*EXTRAS, "typer", "rich", "pyarrow", "sklearn", "scipy", "prometheus_client", "pydantic"}
    (tmp_path / "site" / "sitecustomize.py").write_text(HIDE.format(hidden=hidden))
    path = os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")])
    code = (
        "from scoremux_client import GrpcTransport, HttpTransport, ScoringClient; ScoringClient('localhost:1').close()"
    )
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, check=True, timeout=60)


def test_folders_may_follow_one_option() -> None:
    given = ["export", "backbone", "M", "--for", "a", "b/c", "--out", "repo", "x"]
    assert spread(given) == ["export", "backbone", "M", "--for", "a", "--for", "b/c", "--out", "repo", "x"]
    assert spread(["serve", "--adapters", "a", "--set", "k=v", "--adapters", "b", "c"]) == [
        *("serve", "--adapters", "a", "--set", "k=v", "--adapters", "b", "--adapters", "c"),
    ]
    assert spread(["--for"]) == ["--for"] and spread([]) == []


def test_serving_adapters_without_the_extra_that_exports_says_what_brings_it(tmp_path: Path) -> None:
    folder = make_adapter(tmp_path / "t-1", make_spec(8), "t-1", config={"base_model_name_or_path": "org/model"})
    words = ("serve", "--grpc-port", "0", "--http-port", "0", "--metrics-port", "0", "--watch-port", "0")
    done = run(tmp_path, *words, "--repository", tmp_path / "repo", "--adapters", folder, hidden={"torch", "peft"})
    assert done.returncode == 2
    assert "this command needs torch: pip install 'scoremux[export]'" in done.stderr
    assert "Traceback" not in done.stderr
