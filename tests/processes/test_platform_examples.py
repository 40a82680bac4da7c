"""The examples for platforms, each against a sandbox, in the languages whose runtime is here."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from apis import api_process
from making import ROOT

FOLDER = ROOT / "examples/platform"
SCRIPTS = ("score_and_wait.sh", "score_and_wait.py", "score_and_wait.ts", "score_and_wait.php")
EXAMPLES = (*SCRIPTS, "ScoreAndWait.java", "ScoreAndWait.cs")
COMMANDS = {".sh": ["sh"], ".py": [sys.executable], ".php": ["php"], ".java": ["java"], ".cs": ["dotnet", "run"]}
_NEWEST_WITHOUT_TYPES = (22, 17)


def runtime(example: str) -> list[str] | None:
    """Return the command that runs an example, None where there is none."""
    if example.endswith(".ts"):
        return _node()
    command = COMMANDS[Path(example).suffix]
    needed = [command[0], *(["curl", "jq"] if command == ["sh"] else [])]
    return command if all(map(shutil.which, needed)) else None


def _node() -> list[str] | None:
    """Return a Node that runs TypeScript: the system's, or that of Playwright."""
    found = find_spec("playwright")
    bundled = Path(found.origin).parent / "driver/node" if found and found.origin else None
    for node in (shutil.which("node"), bundled):
        version = subprocess.run([str(node), "--version"], capture_output=True, text=True).stdout if node else ""
        if version and tuple(map(int, version[1:].split(".")[:2])) > _NEWEST_WITHOUT_TYPES:
            return [str(node)]
    return None


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, subprocess.Popen[str]]]:
    """Run all examples side by side, as each waits for five seconds."""
    commands = {example: command for example in EXAMPLES if (command := runtime(example))}
    with api_process(tmp_path_factory.mktemp("sandbox"), "--sandbox") as (sandbox, _):
        env = {**os.environ, "SCOREMUX_URL": str(sandbox.base_url)}
        started = {
            example: subprocess.Popen([*command, FOLDER / example], env=env, stdout=subprocess.PIPE, text=True)
            for example, command in commands.items()
        }
        yield started
        for process in started.values():
            process.kill()
            process.communicate()


@pytest.mark.parametrize("example", EXAMPLES)
def test_example_sends_rows_and_reads_the_decision(running: dict[str, subprocess.Popen[str]], example: str) -> None:
    if example not in running:
        pytest.skip(f"nothing here runs {example}")
    said, _ = running[example].communicate(timeout=120)
    *counts, decision = re.sub(r"human-\S+", "human", said).splitlines()
    total = sum(int(line.removesuffix(" rows scored")) for line in counts)  # some say how many after each request
    assert (running[example].returncode, total, decision) == (0, 5000, "human final level 0")


def test_examples_send_the_same_rows() -> None:
    for example in EXAMPLES:
        code = (FOLDER / example).read_text(encoding="utf-8")
        assert "It hands out addresses." in code and "/v1/score" in code and "/v1/changes" in code and "512" in code
