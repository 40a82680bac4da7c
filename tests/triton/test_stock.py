"""What an export and `scoremux tasks add` leave is a repository that tritonserver serves by itself."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ports import free_endpoints
from scoremux_client import NO_RETRIES, Scored, ScoringClient, TransportError
from scoremux_engine import Engine
from scoremux_engine.runners.choose import RunnerChoice
from scoremux_server.triton.endpoints import Endpoints
from scoremux_server.triton.installation import Installation
from scoremux_server.triton.run_files import SHARED_MEMORY
from serving import SCOREMUX, code
from waiting import until
from watching import responses

pytestmark = pytest.mark.triton


@pytest.fixture
def repository(exported: Path, adapters: list[Path], tmp_path: Path) -> Path:
    """A repository as the commands and a server leave it, moved elsewhere afterwards."""
    made = tmp_path / "made"
    subprocess.run(["cp", "-r", str(exported), str(made)], check=True)
    command = [SCOREMUX, "tasks", "add", *map(str, adapters), "--store", str(made / "store")]
    subprocess.run([*command, "--backbone", str(made / "backbone" / "1")], check=True, capture_output=True)
    (made / "logs").mkdir()
    return made.rename(tmp_path / "moved")


@contextmanager
def tritonserver(models: str, cwd: Path, folder: Path) -> Iterator[Endpoints]:
    """Start the bundled tritonserver in `cwd` by hand; yield where it listens."""
    triton, ports, prefix = Installation.find(), free_endpoints(), f"stock_{os.getpid()}_"
    command = [
        str(triton.program),
        f"--model-repository={models}",
        f"--backend-directory={triton.backends(folder / 'backends')}",
        f"--backend-config=python,shm-region-prefix-name={prefix}",
        "--grpc-address=127.0.0.1",
        f"--grpc-port={ports.grpc}",
        "--http-address=127.0.0.1",
        f"--http-port={ports.http}",
        "--allow-metrics=false",
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=cwd, env=triton.environment(os.environ), stdout=log, stderr=log)
    try:
        yield ports
    finally:
        process.terminate()
        process.wait(120)
        assert not list(SHARED_MEMORY.glob(f"{prefix}*"))


def scored_by(url: str, log: Path) -> list[Scored]:
    deadline = time.monotonic() + 180
    while True:
        try:
            with ScoringClient(url, timeout_s=20, retries=NO_RETRIES) as client:
                return client.score(responses(40))
        except TransportError:
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)


@pytest.mark.parametrize("runner", [pytest.param("onnxruntime", marks=pytest.mark.nightly), "openvino"])
def test_a_tritonserver_started_by_hand_scores(repository: Path, tmp_path: Path, runner: str) -> None:
    if runner != "openvino":  # parameters override the defaults
        with (repository / "models" / "scorer" / "config.pbtxt").open("a") as config:
            config.write(f'parameters {{ key: "runner" value {{ string_value: "{runner}" }} }}\n')
    # In the repository itself the paths that Triton gives the scorer are relative.
    models = "models" if runner == "openvino" else str(repository / "models")
    with tritonserver(models, repository, tmp_path) as ports:
        scored = scored_by(ports.grpc_url, tmp_path / "log")
        until(lambda: code(f"{ports.http_url}/v2/health/ready") == 200)  # it listens to HTTP after gRPC
    rows = responses(40)
    engine = Engine.open(repository, runner=RunnerChoice(runner))
    expected = engine.score([row.text for row in rows], [row.task for row in rows])
    assert [(s.level, s.probabilities, s.version) for s in scored] == [
        (s.level, s.probabilities, s.version) for s in expected
    ]
