"""The examples for platforms, each against a sandbox, in the languages whose runtime is here."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest

from apis import api_process
from making import ROOT
from waiting import until

FOLDER = ROOT / "examples/platform"
SAID = "machine OK level 1 machine\nhuman OK level 1 human:UNUSUAL\nhuman final level 0\n"
SAID_BY_TYPESCRIPT = (
    "limited OK level 1 machine\ncorrected OK level 1 human:UNUSUAL\n"
    "corrected row.final level 0 score 0\ncorrected row.corrected level 1 score 0.5\n"
)
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
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    options = ("--sandbox", "--allow-webhook", "127.0.0.1")
    with api_process(tmp_path_factory.mktemp("sandbox"), *options) as (client, _):
        yield client


@pytest.fixture(scope="module")
def running(sandbox: httpx.Client) -> Iterator[dict[str, subprocess.Popen[str]]]:
    """Run all examples side by side, as each waits for five seconds."""
    env = {**os.environ, "SCOREMUX_URL": str(sandbox.base_url)}
    commands = {example: command for example in EXAMPLES if (command := runtime(example))}
    started = {
        example: subprocess.Popen([*command, FOLDER / example], env=env, stdout=subprocess.PIPE, text=True)
        for example, command in commands.items()
    }
    yield started
    for process in started.values():
        process.kill()
        process.communicate()


def test_webhook_that_is_not_signed_is_refused(
    sandbox: httpx.Client, running: dict[str, subprocess.Popen[str]]
) -> None:
    receivers = sum(Path(example).suffix in (".py", ".ts") for example in running)
    headers = {"webhook-id": "msg_1", "webhook-timestamp": str(int(time.time())), "webhook-signature": "v1,AAAA"}
    event = {"type": "row.final", "data": {"task": "sandbox-1", "id": "human", "level": 2}}
    answers: dict[str, int] = {}

    def all_have_answered() -> bool:
        for url in {hook["url"] for hook in sandbox.get("/v1/webhooks").json()["webhooks"]} - answers.keys():
            answers[url] = httpx.post(url, content=json.dumps(event), headers=headers, timeout=60).status_code
        return len(answers) == receivers

    until(all_have_answered)
    assert set(answers.values()) <= {400}


@pytest.mark.parametrize("example", EXAMPLES)
def test_example_reads_the_decision(running: dict[str, subprocess.Popen[str]], example: str) -> None:
    if example not in running:
        pytest.skip(f"nothing here runs {example}")
    said, _ = running[example].communicate(timeout=120)
    assert running[example].returncode == 0 and re.sub(r"-\S+", "", said) == (
        SAID_BY_TYPESCRIPT if example.endswith(".ts") else SAID
    )


def test_examples_send_the_same_rows() -> None:
    for example in EXAMPLES:
        code = (FOLDER / example).read_text(encoding="utf-8")
        assert "It hands out addresses." in code and "It gives every device its address." in code
        assert "/v1/score" in code and "Idempotency-Key" in code.replace("idempotency-key", "Idempotency-Key")
