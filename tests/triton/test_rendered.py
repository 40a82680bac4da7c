"""What a profile becomes: configurations that Triton's own schema reads, and a command line."""

import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import DataType, ModelConfig

from making import write_plan
from scoremux_client import contract
from scoremux_engine.model.backbone import Backbone
from scoremux_server.profile import Profile, names
from scoremux_server.serve import rendered
from scoremux_server.triton.endpoints import Endpoints
from scoremux_server.triton.server import TritonServer
from serving import SCOREMUX


@pytest.fixture
def repository(own_repository: Path) -> Path:
    """A repository with a file where a TensorRT plan would be."""
    folder = own_repository / "backbone" / "1"
    write_plan(folder, Backbone.open(folder).spec)
    return own_repository


@pytest.fixture
def container(tmp_path: Path) -> Path:
    (tmp_path / "triton" / "bin").mkdir(parents=True)
    (tmp_path / "triton" / "bin" / "tritonserver").touch()
    return tmp_path / "triton"


def render(repository: Path, container: Path, name: str, *settings: str) -> tuple[dict[str, Any], list[str]]:
    """Return the models' configurations, parsed, and the command line, both out of what is printed."""
    elsewhere = [f"triton={container}"] if name.startswith("gpu") else []
    profile = Profile.read(name, [*elsewhere, *settings])
    text = rendered(TritonServer(repository, Endpoints(8001, 8000, 8002), profile=profile))
    *configs, line = split(text)
    parsed = [text_format.Parse(config, ModelConfig()) for config in configs]
    return {config.name: config for config in parsed}, shlex.split(line)


def addresses(words: list[str]) -> list[str]:
    return [word for word in words if "-address=" in word]


def split(text: str) -> list[str]:
    """Return the printed parts without their headings."""
    parts: list[list[str]] = []
    for line in text.splitlines():
        if line.startswith("# /tmp/scoremux-RUN/models/") or line == "# command line":
            parts.append([])
        else:
            parts[-1].append(line)
    return ["\n".join(part) for part in parts]


@pytest.mark.parametrize("name", names())
def test_every_profile_renders_the_contract(repository: Path, container: Path, name: str) -> None:
    configs, words = render(repository, container, name, "bank_bytes=4096", "threads=2")
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
    assert (given["bank_bytes"], given["threads"], given["device"]) == ("4096", "2", "cpu")
    assert [w for w in words if w.startswith("--load-model=")] == [f"--load-model={m}" for m in sorted(configs)]
    assert "--model-control-mode=explicit" in words
    if profile.backend == "none":
        assert set(configs) == {"scorer"}
    else:
        assert configs["backbone"].backend == profile.backend
        assert words[0] == str(container / "bin" / "tritonserver")
        assert f"--backend-directory={container / 'backends'}" in words


def test_every_listener_is_on_loopback_and_changes_take_the_key(repository: Path, container: Path) -> None:
    _, words = render(repository, container, "cpu")
    assert addresses(words) == [f"--{p}-address=127.0.0.1" for p in ("grpc", "http", "metrics")]
    restricted = "shared-memory,model-repository,trace,logging:scoremux-key=KEY"
    assert f"--grpc-restricted-protocol={restricted}" in words
    assert f"--http-restricted-api={restricted}" in words


def test_the_command_prints_it_and_leaves_nothing(small_repository: Path, tmp_path: Path) -> None:
    command = [SCOREMUX, "serve", "--repository", str(small_repository), "--profile", "cpu", "--print-config"]
    variables = {**os.environ, "TMPDIR": str(tmp_path)}
    shown = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=240, check=True).stdout
    assert 'key: "precision" value { string_value: "float32" }' in shown
    assert "# /tmp/scoremux-RUN/models/scorer/config.pbtxt" in shown
    assert "bin/tritonserver \\\n  --model-repository=/tmp/scoremux-RUN/models" in shown
    assert list(tmp_path.iterdir()) == []
