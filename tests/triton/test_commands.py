"""The commands with a real Triton: serve, score, ask, stop; and what a start of `serve` would run."""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import DataType, ModelConfig

from making import write_plan
from scoremux_client import NO_RETRIES, Scored, ScoringClient, TransportError, contract
from scoremux_engine import Engine
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.runners.choose import RunnerChoice
from scoremux_server.profile import Profile, names
from scoremux_server.triton.endpoints import Endpoints
from scoremux_server.triton.installation import Installation
from scoremux_server.triton.processes import arguments
from scoremux_server.triton.run_files import SHARED_MEMORY
from scoremux_server.triton.server import TritonServer
from serving import SCOREMUX, code, refusal, run_here, serving
from waiting import free_endpoints, port_options, until
from watching import responses


def test_serve_score_evaluate_stop(small_repository: Path, tmp_path: Path) -> None:
    rows = [{"id": str(i), "task": f"t-{1 + i % 4}", "text": f"the router {i}"} for i in range(40)]
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"id": "x", "task": "nope", "text": "a"}]))
    with serving(small_repository, tmp_path) as server:
        triton = server.triton
        prefix = next(w for w in arguments(triton) if "shm-region-prefix" in w).rpartition("=")[2]
        assert list(SHARED_MEMORY.glob(f"{prefix}*"))
        scored = run_here("score", source, "--out", tmp_path / "out.jsonl", "--url", server.endpoints.grpc_url)
        assert scored.returncode == 0, scored.stderr
        assert re.search(r"OK\s+│\s+40 ", scored.stderr)
        assert re.search(r"UNKNOWN_TASK\s+│\s+1 ", scored.stderr)
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(120) == 0
    assert not Path(f"/proc/{triton}").exists()
    assert not list(SHARED_MEMORY.glob(f"{prefix[:-1]}*"))
    out = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["id"] for row in out] == [*(row["id"] for row in rows), "x"]

    truth = tmp_path / "truth.jsonl"
    truth.write_text("".join(json.dumps({"id": r["id"], "level": max(r["level"], 0)}) + "\n" for r in out))
    evaluated = run_here("evaluate", tmp_path / "out.jsonl", "--truth", truth)
    assert evaluated.returncode == 0, evaluated.stderr
    assert re.search(r"all rows\s+40 .*1\.00 \[\.91, 1\.00\]", evaluated.stdout)
    assert "1 rows have no score: UNKNOWN_TASK: x" in evaluated.stdout


def test_ask_shows_one_answer(server: TritonServer) -> None:
    asked = run_here("ask", "t-1", "the router", "--url", server.endpoints.grpc_url)
    assert (asked.returncode, asked.stderr) == (0, "")
    assert re.match(r"level \d, [\d.]+ points\n", asked.stdout) and "decided by human:UNCALIBRATED" in asked.stdout
    assert asked.stdout.count("█") >= 25
    unknown = run_here("ask", "nope", "the router", "--url", server.endpoints.grpc_url)
    assert unknown.returncode == 2 and "no task nope at" in unknown.stderr and "t-1, t-2" in unknown.stderr


def test_what_triton_refuses_is_one_sentence(own_repository: Path) -> None:
    given = ("serve", "--repository", own_repository, *port_options())
    said = refusal(*given, "--set", "precision=int8", ONEDNN_MAX_CPU_ISA="AVX2")
    assert said.startswith("scoremux: this processor does not compute in int8; it computes in float32\n(log: ")
    graph = own_repository / "backbone" / "1" / "backbone.onnx"
    graph.write_bytes(graph.read_bytes()[:-1000])
    assert refusal(*given).startswith(f"scoremux: {graph} was changed or cut short after the export; export the")


def test_score_says_that_no_server_answers_and_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("task,text\nt-1,secret answer\n")
    options = ("--url", "127.0.0.1:9", "--patience", "1")
    failed = run_here("score", tmp_path / "in.csv", "--out", tmp_path / "out.csv", *options)
    assert failed.returncode == 2
    assert "127.0.0.1:9" in failed.stderr
    assert "secret answer" not in failed.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]


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


@pytest.mark.nightly
@pytest.mark.parametrize("runner", ["onnxruntime", "openvino"])
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


@pytest.fixture
def planned(own_repository: Path) -> Path:
    folder = own_repository / "backbone" / "1"
    write_plan(folder, Backbone.open(folder).spec)
    return own_repository


@pytest.fixture
def container(tmp_path: Path) -> Path:
    (tmp_path / "triton" / "bin").mkdir(parents=True)
    (tmp_path / "triton" / "bin" / "tritonserver").touch()
    return tmp_path / "triton"


def render(planned: Path, container: Path, name: str, *settings: str) -> tuple[dict[str, Any], list[str]]:
    """Return the models' configurations that a start would write, parsed, and the command line."""
    elsewhere = [f"triton={container}"] if name.startswith("gpu") else []
    profile, folder = Profile.read(name, [*elsewhere, *settings]), container.parent / "run"
    folder.mkdir()
    words = TritonServer(planned, Endpoints(8001, 8000, 8002), profile=profile).command(folder, key="KEY")
    texts = [path.read_text() for path in (folder / "models").glob("*/config.pbtxt")]
    parsed = [text_format.Parse(text, ModelConfig()) for text in texts]
    return {config.name: config for config in parsed}, words


def addresses(words: list[str]) -> list[str]:
    return [word for word in words if "-address=" in word]


@pytest.mark.parametrize("name", names())
def test_every_profile_renders_the_contract(planned: Path, container: Path, name: str) -> None:
    configs, words = render(planned, container, name, "bank_bytes=4096", "threads=2")
    profile = Profile.read(name, [f"triton={container}"])
    scorer = configs["scorer"]
    types = {"BYTES": "TYPE_STRING"}
    outputs = (*contract.OUTPUTS, *contract.ON_REQUEST)
    for tensors, specs in ((scorer.input, contract.INPUTS), (scorer.output, outputs)):
        expected = [(s.name, types.get(s.datatype, f"TYPE_{s.datatype}"), s.shape) for s in specs]
        assert [(t.name, DataType.Name(t.data_type), tuple(t.dims)) for t in tensors] == expected
    given = {key: value.string_value for key, value in scorer.parameters.items()}
    precision = "float16" if profile.backend == "tensorrt" else profile.precision  # that of the plan (`write_plan`)
    assert (given["runner"], given["precision"]) == (profile.runner, precision)
    assert (given["bank_bytes"], given["threads"], given["device"]) == ("4096", "2", profile.device)
    assert [w for w in words if w.startswith("--load-model=")] == [f"--load-model={m}" for m in sorted(configs)]
    assert "--model-control-mode=explicit" in words
    if profile.backend == "none":
        assert set(configs) == {"scorer"}
    else:
        assert configs["backbone"].backend == profile.backend
        assert words[0] == str(container / "bin" / "tritonserver")
        assert f"--backend-directory={container / 'backends'}" in words


def test_every_listener_is_on_loopback_and_changes_take_the_key(planned: Path, container: Path) -> None:
    _, words = render(planned, container, "cpu")
    assert addresses(words) == [f"--{p}-address=127.0.0.1" for p in ("grpc", "http", "metrics")]
    restricted = "shared-memory,model-repository,trace,logging:scoremux-key=KEY"
    assert f"--grpc-restricted-protocol={restricted}" in words
    assert f"--http-restricted-api={restricted}" in words
