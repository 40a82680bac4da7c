"""`scoremux export backbone`: what it publishes and refuses, a failed proof, and every family of models."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import transformers

from computed import computed_runners
from families import FAMILIES, POSITIONS, each_family
from making import make_encoder
from probe_graph import operations
from scoremux_engine import Engine
from scoremux_engine.errors import BackboneError
from scoremux_engine.model.backbone import ONNX, Backbone
from scoremux_engine.model.tables import Tables
from scoremux_engine.runners.arithmetic import PROBE
from scoremux_engine.runners.onnxruntime import OnnxRuntimeRunner
from scoremux_engine.runners.runner import Outputs, RowInputs
from scoremux_engine.store.store import Store
from scoremux_export.errors import ExportError, ModelError, ParityError
from scoremux_export.export_graph import export_backbone
from scoremux_export.opening.classifier import Classifier
from scoremux_export.opening.graph import write_graph
from scoremux_export.opening.openable import Opening
from scoremux_export.opening.opened import OpenedModel


class OffByALittle(OnnxRuntimeRunner):
    """A runner whose logits are wrong by twice the tolerance."""

    def run(self, rows: RowInputs, tables: Tables, *, pooled: bool = False) -> Outputs:
        out = super().run(rows, tables, pooled=pooled)
        return Outputs(out.logits + np.float32(2e-4), out.pooled)


def test_the_published_folder_and_its_graph_are_those_of_the_contract(backbone: Backbone) -> None:
    spec = backbone.spec
    assert {path.name for path in backbone.folder.iterdir()} == {
        "backbone.onnx",
        "backbone.json",
        backbone.measured_file.name,
        "tokenizer.json",
    }
    assert [site.name.rpartition(".")[2] for site in spec.sites] == ["query", "value"] * 2
    assert [(linear.name, linear.d_in, linear.d_out) for linear in spec.head] == [("classifier", 32, None)]
    assert spec.max_tokens == 64
    assert 0 < spec.parity.max_abs_logit_difference <= 1e-4
    graph = onnx.load(backbone.onnx).graph
    shapes = {i.name: [d.dim_param or d.dim_value for d in i.type.tensor_type.shape.dim] for i in graph.input}
    site = "bert.encoder.layer.1.attention.self.value"
    assert shapes["input_ids"] == shapes["attention_mask"] == shapes["token_type_ids"] == ["B", "S"]
    assert shapes["group"] == ["B"]
    assert shapes[f"A.{site}"][:2] == ["G", 32]
    assert shapes[f"B.{site}"][::2] == ["G", 32]
    assert shapes["weight.classifier"] == ["G", 32, "L_max"]
    assert list(shapes) == [*backbone.spec.row_inputs, *backbone.spec.table_inputs]
    assert [output.name for output in graph.output] == list(backbone.spec.outputs) == ["logits", "pooled"]
    assert backbone.spec.pooled_size == 32


def test_a_site_costs_two_lookups_and_two_products_and_copies_no_table(backbone: Backbone) -> None:
    """Tables of sites that read the same x used to be concatenated for one product, for each row again."""
    nodes = {output: node for node in onnx.load(backbone.onnx).graph.node for output in node.output}
    of_tables = {name: node for name, node in nodes.items() if {*node.input} & {*backbone.spec.table_inputs}}
    readers = [node for node in nodes.values() if {*node.input} & {*of_tables}]
    of_sites = [name for site in backbone.spec.sites for name in site.inputs]
    assert sorted(node.input[0] for node in of_tables.values() if node.input[0] in of_sites) == sorted(of_sites)
    assert {node.op_type for node in of_tables.values()} == {"Gather"}
    assert {node.op_type for node in readers} <= {"MatMul", "Add"}


def test_a_failed_proof_leaves_the_old_backbone(
    exported: Path, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The graph is one that was written before, which saves its time."""
    shutil.copytree(exported, tmp_path / "old")
    before = Backbone.open(tmp_path / "old" / "backbone" / "1").spec.digest

    def copy_graph(_opened: OpenedModel, path: Path, *_: object) -> int:
        shutil.copyfile(exported / "backbone" / "1" / ONNX, path)
        return 32

    monkeypatch.setattr("scoremux_export.export_graph.write_graph", copy_graph)
    with pytest.raises(ParityError, match=r"max \|Δlogit\|"):
        export_backbone(str(encoder), Opening("query,value"), tmp_path / "old", OffByALittle)
    assert [path.name for path in (tmp_path / "old" / "backbone").iterdir()] == ["1"]
    assert Backbone.open(tmp_path / "old" / "backbone" / "1").spec.digest == before


@pytest.mark.nightly
def test_model_that_reads_padding_is_refused_by_name(encoder: Path, tmp_path: Path) -> None:
    source = shutil.copytree(encoder, tmp_path / "convbert")
    (source / "model.safetensors").unlink()
    sizes: dict[str, float] = {
        "hidden_size": 32,
        "embedding_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
    }
    sizes |= {"vocab_size": 120, "intermediate_size": 32, "max_position_embeddings": 64, "initializer_range": 0.2}
    torch.manual_seed(0)
    config = transformers.ConvBertConfig(**sizes)
    transformers.ConvBertModel(config).save_pretrained(source)
    with pytest.raises(ParityError, match="ConvBertForSequenceClassification reads padding as text"):
        export_backbone(str(source), Opening("query,value"), tmp_path / "out")


@pytest.mark.nightly
def test_a_pooler_so_steep_that_float32_is_coarser_than_the_tolerance_is_proved_by_float64(tmp_path: Path) -> None:
    source = make_encoder(tmp_path / "source")
    encoder = transformers.BertModel.from_pretrained(source)
    with torch.no_grad():
        encoder.pooler.dense.weight *= 3000
    encoder.save_pretrained(source)
    assert export_backbone(str(source), Opening("query,value"), tmp_path / "out").spec.parity.rows == 19


@pytest.mark.nightly
def test_weights_in_a_file_of_another_name_are_exported_without_their_digest(encoder: Path, tmp_path: Path) -> None:
    source = shutil.copytree(encoder, tmp_path / "model")
    (source / "model.safetensors").rename(source / "other.safetensors")
    config = json.loads((source / "config.json").read_text()) | {"transformers_weights": "other.safetensors"}
    (source / "config.json").write_text(json.dumps(config))
    assert export_backbone(str(source), Opening("query"), tmp_path / "out").spec.weights == ""


@pytest.mark.nightly
def test_a_second_export_replaces_the_first_once_its_store_was_moved(own_repository: Path, encoder: Path) -> None:
    old = Backbone.open(own_repository / "backbone" / "1").spec.digest
    with pytest.raises(ExportError, match=f"belongs to backbone {old[:12]}, .*: mv .*store-{old[:12]}$") as refused:
        export_backbone(str(encoder), Opening("key"), own_repository)
    assert Backbone.open(own_repository / "backbone" / "1").spec.digest == old
    (own_repository / "store").rename(own_repository / f"store-{old[:12]}")
    new = export_backbone(str(encoder), Opening("key"), own_repository).spec
    assert {site.name.rpartition(".")[2] for site in new.sites} == {"key"}
    assert [path.name for path in (own_repository / "backbone").iterdir()] == ["1"]
    assert f"this export is backbone {new.digest[:12]}" in str(refused.value)


def test_a_pickle_file_is_never_opened(encoder: Path, tmp_path: Path) -> None:
    """Unpickling runs whatever code the file names; the marker shows that nothing did."""
    folder, marker = tmp_path / "model", tmp_path / "marker"
    shutil.copytree(encoder, folder)
    (folder / "model.safetensors").unlink()

    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return marker.touch, ()

    with (folder / "pytorch_model.bin").open("wb") as file:
        pickle.dump(Bomb(), file)
    with pytest.raises(ModelError, match=r"pytorch_model\.bin is a pickle file"):
        export_backbone(str(folder), Opening("query"), tmp_path / "out")
    assert not marker.exists()


def test_no_model_unknown_sites_and_a_linear_that_is_never_called_are_refused(encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be opened"):
        export_backbone(str(tmp_path), Opening("query"), tmp_path / "out")
    with pytest.raises(ModelError, match=r"no module is named q_proj; .*dense.*query"):
        export_backbone(str(encoder), Opening("q_proj"), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    model = transformers.AutoModelForSequenceClassification.from_pretrained(encoder, attn_implementation="eager")
    model.bert.idle = torch.nn.Linear(4, 4)
    sites, head = Opening("query,idle").describe(model)
    opened = OpenedModel(model, sites, head, pad_id=0)
    with pytest.raises(ModelError, match=r"bert\.idle is never called"):
        write_graph(opened, tmp_path / "graph.onnx", max_tokens=64, token_types=False)


@pytest.mark.parametrize(
    ("options", "added", "message"),
    [
        ({"split_special_tokens": True}, [], r"split_special_tokens, which tokenizer\.json does not keep"),
        ({"truncation_side": "left"}, [], r"tokenizer cuts long texts at the left, and the server at the right"),
        ({}, ["H₂O"], r"tokenizer has the token H₂O with the id \d+, and the model has \d+ embeddings; save"),
    ],
    ids=["special tokens", "truncation", "embeddings"],
)
def test_unfaithful_tokenizer_is_refused(
    encoder: Path, tmp_path: Path, options: dict[str, object], added: list[str], message: str
) -> None:
    auto = transformers.AutoTokenizer.from_pretrained(encoder, **options)
    auto.add_tokens(added)
    shutil.copytree(encoder, tmp_path / "model")
    auto.save_pretrained(tmp_path / "model")
    with pytest.raises(ModelError, match=message):
        export_backbone(str(tmp_path / "model"), Opening("query"), tmp_path / "out")


def test_a_special_token_that_transformers_adds_for_itself_is_text(encoder: Path, tmp_path: Path) -> None:
    shutil.copytree(encoder, tmp_path / "model")
    transformers.AutoTokenizer.from_pretrained(encoder, eos_token="<|end|>").save_pretrained(tmp_path / "model")
    opened = Classifier.open(str(tmp_path / "model"))
    assert opened.tokenizer.eos_token_id >= opened.model.config.vocab_size
    assert "<|end|>" not in opened.words().get_vocab()
    as_before = transformers.AutoTokenizer.from_pretrained(encoder)("the <|end|> of a packet").input_ids
    assert opened.words().encode("the <|end|> of a packet").ids == as_before


@pytest.fixture(scope="module")
def large(encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small model as models above 2 GB are exported, in a folder that was moved since."""
    made = tmp_path_factory.mktemp("large")
    export_backbone(str(encoder), Opening("query,value"), made / "first", one_file_bytes=1000)
    return (made / "first").rename(made / "moved")


@pytest.mark.nightly
@pytest.mark.parametrize("name", computed_runners())
def test_weights_beside_the_graph_change_no_bit(large: Path, small_repository: Path, name: str) -> None:
    files = {path.name for path in (large / "backbone" / "1").iterdir()}
    measured = Backbone.open(large / "backbone" / "1").measured_file.name
    assert files == {"backbone.onnx", "backbone.onnx.data", "backbone.json", measured, "tokenizer.json"}
    texts, tasks = ["the router", "a bridge is lost", ""], ["t-1", "t-2", "t-4"]
    backbone, store = Backbone.open(large / "backbone" / "1"), Store(small_repository / "store")
    assert set(backbone.spec.files) == files - {"backbone.json", measured}
    runner = computed_runners()[name]
    expected = Engine.open(small_repository, runner=runner).logits(texts, tasks)
    manifest = store.manifest().model_copy(update={"backbone": backbone.spec.digest})
    shutil.copytree(small_repository / "store", large / "store", dirs_exist_ok=True)
    (large / "store" / "manifest.json").write_bytes(manifest.to_json())
    assert Engine.open(large, runner=runner).logits(texts, tasks).tobytes() == expected.tobytes()


def test_damaged_weights_beside_the_graph_are_named(exported_family: Callable[[str], Path], tmp_path: Path) -> None:
    folder = shutil.copytree(exported_family("qwen3") / "backbone" / "1", tmp_path / "1")
    (folder / "backbone.onnx.data").write_bytes(bytes(8))
    with pytest.raises(BackboneError, match=r"backbone\.onnx\.data was changed or cut short"):
        Backbone.open(folder)


def of_format(data: bytes, **format: int) -> bytes:
    return json.dumps({key: value for key, value in json.loads(data).items() if key != "format"} | format).encode()


@pytest.mark.parametrize(
    ("name", "change", "sentence"),
    [
        ("backbone.json", of_format, "of another version of scoremux; run `scoremux export backbone` again$"),
        ("backbone.json", lambda data: of_format(data, format=2), "of another version of scoremux; run `scoremux exp"),
        ("backbone.json", lambda data: data.replace(b'"max_tokens": 64', b'"max_tokens": 32'), "changed after the exp"),
        *((name, lambda data: data[:-1], f"{name} was changed or cut") for name in ("backbone.onnx", "tokenizer.json")),
    ],
)
def test_changed_export(
    exported: Path, tmp_path: Path, name: str, change: Callable[[bytes], bytes], sentence: str
) -> None:
    folder = shutil.copytree(exported / "backbone" / "1", tmp_path / "1")
    (folder / name).write_bytes(changed := change((folder / name).read_bytes()))
    assert changed != (exported / "backbone" / "1" / name).read_bytes()
    with pytest.raises(BackboneError, match=sentence):
        Backbone.open(folder)


# What computes places and masks, or moves numbers.
_OF_PLACES = {
    *("Abs", "And", "ArgMax", "Ceil", "Clip", "CumSum", "Equal", "Expand", "GatherElements", "GatherND", "Greater"),
    *("GreaterOrEqual", "LessOrEqual", "Log", "Max", "Min", "Not", "Or", "Sign", "Split"),
}


@pytest.mark.parametrize("name", each_family())
def test_a_small_model_of_the_family_is_exported_and_proved(name: str, exported_family: Callable[[str], Path]) -> None:
    """The export compares all runners with PEFT."""
    family, folder = FAMILIES[name], exported_family(name) / "backbone" / "1"
    spec = Backbone.open(folder).spec
    assert spec.sites
    assert bool(spec.prefix_layers) == family.decoder
    assert (spec.pad_id, spec.max_tokens) == (family.pad_id, POSITIONS if family.decoder else family.max_tokens)
    assert spec.parity.rows > 10
    assert 0 < spec.parity.max_abs_logit_difference <= 1e-4
    graph, probe = (onnx.load(at / ONNX, load_external_data=False) for at in (folder, PROBE))
    assert {*operations(graph)} - {*operations(probe)} <= _OF_PLACES
