"""The OpenAPI file, and an API that schemathesis calls with everything that the file allows and forbids."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from apis import api, listening_api
from making import ROOT
from openapi_file import openapi_text

FILE = ROOT / "engine/scoremux_api/openapi.json"
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


def test_file_is_what_the_api_offers(tmp_path: Path) -> None:
    with api(tmp_path) as (client, _):
        told = client.get("/v1/openapi.json").json()
        written = FILE.read_text(encoding="utf-8")
        assert written == openapi_text(client.app), "python tests/support/openapi_file.py writes it"  # type: ignore[arg-type]
    assert told == json.loads(written)


def conforms(folder: Path, examples: int, seed: int = 5) -> int:
    """Call a real API with schemathesis; return how many cases it made, all of which passed."""
    words = (
        f"--checks {CHECKS} --max-examples {examples} --phases coverage,fuzzing --warnings off --no-color --seed {seed}"
    )
    hooks = {"SCHEMATHESIS_HOOKS": "jsonl_bodies", "PYTHONPATH": str(ROOT / "tests/support")}
    with listening_api(folder) as address:
        command = [Path(sys.executable).with_name("schemathesis"), "run", f"http://{address}/v1/openapi.json"]
        ended = subprocess.run(
            [*command, *words.split()], capture_output=True, text=True, cwd=folder, env={**os.environ, **hooks}
        )
    cases = re.search(r"(\d+) generated, \1 passed", ended.stdout.replace(",", "").replace("generated ", "generated, "))
    assert ended.returncode == 0 and cases, ended.stdout[-6000:] + ended.stderr[-2000:]
    return int(cases[1])


def test_every_answer_is_in_the_file(tmp_path: Path) -> None:
    assert conforms(tmp_path, 5) > 300


@pytest.mark.nightly
@pytest.mark.parametrize("seed", [6, 7])  # 10,000 cases, in two tests that take less than the ten minutes they have
def test_ten_thousand_answers_are_in_the_file(tmp_path: Path, seed: int) -> None:
    assert conforms(tmp_path, 500, seed) >= 5_000
