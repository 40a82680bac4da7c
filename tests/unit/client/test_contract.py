"""Every config.pbtxt against the contract, and the repository that Triton is started on."""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import DataType, ModelConfig

from making import ROOT, write_plan
from scoremux_client import contract
from scoremux_client.contract import TensorSpec
from scoremux_engine.backend.models import write_scorer
from scoremux_engine.errors import BackboneError
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.runners.choose import RunnerChoice
from scoremux_server.errors import SetupError
from scoremux_server.triton.repository import BACKENDS, assemble

MODELS = ROOT / "model_repository"
CONFIGS = sorted(MODELS.rglob("*.pbtxt"))
ODD_NAMES = ["plain", "a space", 'double "quotes"', "it's", "back\\slash", "Prüfung-日本", "new\nline", "tab\tbell\a"]


def parse(path: Path) -> Any:
    return text_format.Parse(path.read_text(encoding="utf-8"), ModelConfig())


def specs(tensors: Iterable[Any]) -> tuple[TensorSpec, ...]:
    types = {"TYPE_STRING": "BYTES"}
    names = [DataType.Name(tensor.data_type) for tensor in tensors]
    return tuple(
        TensorSpec(tensor.name, types.get(name, name.removeprefix("TYPE_")), tuple(tensor.dims))
        for tensor, name in zip(tensors, names, strict=True)
    )


@pytest.fixture
def scorer() -> Any:
    return parse(MODELS / contract.MODEL / "config.pbtxt")


@pytest.fixture
def prepared(tmp_path: Path) -> tuple[Path, Path]:
    """A repository and a store with just enough in them to be assembled."""
    return prepare(tmp_path / "repository")


def prepare(repository: Path) -> tuple[Path, Path]:
    (repository / "backbone" / "1").mkdir(parents=True)
    (repository / "backbone" / "1" / "backbone.json").touch()
    (repository / "store").mkdir()
    (repository / "store" / "manifest.json").touch()
    return repository, repository / "store"


def test_there_is_one_configuration_of_the_scorer_and_one_of_the_backbone_for_every_backend() -> None:
    configs = [parse(path) for path in CONFIGS]
    assert [config.name for config in configs] == [path.relative_to(MODELS).parts[0] for path in CONFIGS]
    assert sorted((c.name, c.backend) for c in configs) == [
        *(("backbone", backend) for backend in sorted(BACKENDS)),
        (contract.MODEL, "python"),
    ]
    backbones = [config for config in configs if config.name == "backbone"]
    assert [config.max_batch_size for config in backbones] == [0] * len(BACKENDS)  # takes micro-batches as they are
    assert not any(config.HasField("dynamic_batching") for config in backbones)


def test_the_hand_written_scorer_is_the_contracts(scorer: Any) -> None:
    assert specs(scorer.input) == contract.INPUTS
    assert specs(scorer.output) == (*contract.OUTPUTS, *contract.ON_REQUEST)
    assert scorer.max_batch_size == contract.MAX_BATCH_ROWS == 512
    assert scorer.dynamic_batching == type(scorer.dynamic_batching)(preferred_batch_size=[1])  # one request at a time
    assert not scorer.parameters  # which would name paths


def test_the_scorer_that_an_export_writes_is_the_hand_written_one(scorer: Any, tmp_path: Path) -> None:
    for _ in range(2):
        write_scorer(tmp_path)
        assert parse(tmp_path / "models" / "scorer" / "config.pbtxt") == scorer
        (tmp_path / "models" / "scorer" / "config.pbtxt").write_text("one of an older version")
    written = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")}
    assert written == {"models/scorer/config.pbtxt", "models/scorer/1/model.py"}
    shutil.rmtree(tmp_path / "models" / "scorer")
    (tmp_path / "models" / "scorer").touch()
    with pytest.raises(BackboneError, match=r"scorer/config\.pbtxt cannot be written: "):
        write_scorer(tmp_path)


def assembled(folder: Path, model: str = "scorer") -> Any:
    return parse(folder / "models" / model / "config.pbtxt")


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_paths_reach_triton_as_they_are(name: str, tmp_path: Path) -> None:
    repository, store = prepare(tmp_path / name)
    assemble(tmp_path / "models", repository, store)
    config = assembled(tmp_path)
    assert config.parameters["repository"].string_value == str(repository)
    assert config.parameters["store"].string_value == str(store)


def test_the_scorer_is_what_was_written_by_hand_but_for_its_parameters(
    prepared: tuple[Path, Path], scorer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    chosen = RunnerChoice("openvino", precision="bfloat16", threads=3)
    assemble(tmp_path / "models", Path("repository"), Path("repository/store"), chosen)
    config = assembled(tmp_path)
    keys = ("runner", "device", "precision", "threads", "store")
    expected = ["openvino", "cpu", "bfloat16", "3", str(prepared[1])]
    assert [config.parameters[key].string_value for key in keys] == expected
    config.ClearField("parameters")
    assert config == scorer
    written = {path.relative_to(tmp_path / "models").as_posix() for path in (tmp_path / "models").rglob("*.*")}
    assert written == {"scorer/config.pbtxt", "scorer/1/model.py"}


@pytest.mark.parametrize(
    ("file", "command"),
    [
        ("backbone/1/backbone.json", "scoremux export backbone MODEL --out"),
        ("store/manifest.json", "scoremux tasks add DIR… --store"),
    ],
)
def test_missing_file_has_its_command(prepared: tuple[Path, Path], tmp_path: Path, file: str, command: str) -> None:
    (prepared[0] / file).unlink()
    with pytest.raises(SetupError, match=command):
        assemble(tmp_path / "models", *prepared)
    assert not (tmp_path / "models").exists()


@pytest.fixture
def described(prepared: tuple[Path, Path], bare: Backbone) -> tuple[Path, Path]:
    """The same with a description of a backbone that can be opened, and empty files in place of its graphs."""
    folder = prepared[0] / "backbone" / "1"
    written = bare.spec.model_copy(update={"digest": bare.spec.own_digest()})
    (folder / "backbone.json").write_text(written.model_dump_json())
    (folder / "backbone.onnx").touch()
    write_plan(folder, written, levels=32)
    return prepared


@pytest.mark.parametrize("backend", sorted(BACKENDS))
def test_backbone_has_the_graphs_tensors(
    described: tuple[Path, Path], bare: Backbone, tmp_path: Path, backend: str
) -> None:
    if backend == "python":
        pytest.importorskip("onnxruntime", reason="needs the extra serve")
    assert assemble(tmp_path / "models", *described, backend=backend) == ["backbone", "scorer"]
    config = assembled(tmp_path, "backbone")
    tables = []
    for site in bare.spec.sites:
        tables.append(TensorSpec(f"A.{site.name}", "FP32", (-1, 8, -1)))
        tables.append(TensorSpec(f"B.{site.name}", "FP32", (-1, -1, 8)))
    tables.append(TensorSpec("weight.classifier", "FP32", (-1, 8, -1)))
    tables.append(TensorSpec("bias.classifier", "FP32", (-1, -1)))
    rows = [TensorSpec(name, "INT64", (-1, -1)) for name in ("input_ids", "attention_mask", "token_type_ids")]
    assert list(specs(config.input)) == [*rows, TensorSpec("group", "INT64", (-1,)), *tables]
    assert specs(config.output) == (TensorSpec("logits", "FP32", (-1, -1)), TensorSpec("pooled", "FP32", (-1, 8)))
    assert config.backend == backend


@pytest.mark.parametrize(("backend", "file"), sorted((b, f) for b, f in BACKENDS.items() if f))
def test_graph_is_linked_for_triton(described: tuple[Path, Path], tmp_path: Path, backend: str, file: str) -> None:
    assemble(tmp_path / "models", *described, backend=backend)
    config = assembled(tmp_path, "backbone")
    graph = tmp_path / "models" / "backbone" / "1" / config.default_model_filename
    assert graph.resolve() == described[0] / "backbone" / "1" / file


def test_a_scorer_beside_a_backbone_of_its_own_calls_it(described: tuple[Path, Path], tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="needs the extra serve")
    chosen = RunnerChoice("openvino", precision="int8")
    assemble(tmp_path / "models", *described, chosen, backend="python")
    given = {model: assembled(tmp_path, model).parameters for model in ("scorer", "backbone")}
    assert given["scorer"]["runner"].string_value == "triton"
    assert given["backbone"]["runner"].string_value == "openvino"
    assert given["backbone"]["precision"].string_value == "int8"


def test_what_no_backend_can_serve_is_refused(described: tuple[Path, Path], bare: Backbone, tmp_path: Path) -> None:
    folder = described[0] / "backbone" / "1"
    with pytest.raises(SetupError, match="backend is 'pytorch'"):
        assemble(tmp_path / "models", *described, backend="pytorch")
    (folder / "backbone.plan").unlink()
    with pytest.raises(SetupError, match=r"backbone\.plan is missing"):
        assemble(tmp_path / "more", *described, backend="tensorrt")
    write_plan(folder, bare.spec.model_copy(update={"digest": bare.spec.own_digest()}), "tensorrt-rtx")
    with pytest.raises(SetupError, match=r"was built with tensorrt-rtx, .*build one on this machine's GPU"):
        assemble(tmp_path / "plan", *described, backend="tensorrt")


def test_parameters_of_a_request_have_its_deadline_in_whole_milliseconds_and_none_without_a_timeout() -> None:
    assert contract.parameters(None) == {}
    assert contract.parameters(2.5) == {"deadline_ms": 2500}
    assert contract.parameters(0.0) == {"deadline_ms": 1}
