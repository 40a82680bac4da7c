"""Adapters as PEFT's users save them: what is opened for them, and the logits that PEFT gives."""

import hashlib
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from making import WORDS, make_encoder
from mixed_store import open_with_peft, train_adapter
from scoremux_client.errors import ScoremuxError
from scoremux_engine import Engine
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.packages.adapter_folders import Adapter, find_adapters, same_model
from scoremux_engine.packages.package_files import TENSORS
from scoremux_engine.store.store import Store
from scoremux_export.commands import export
from scoremux_export.opening.base import base_model, refuse_other_base
from scoremux_export.opening.openable import head_linears, opening_for

TOLERANCE = {"float32": 1e-4}
VARIANTS = {
    "plain": {"r": 8, "lora_alpha": 16},
    "other-rank": {"r": 3, "lora_alpha": 3},
    "rslora": {"r": 4, "lora_alpha": 8, "use_rslora": True},
    "patterns": {"r": 4, "rank_pattern": {r"layer\.0\..*query": 2}, "alpha_pattern": {"value": 32}},
    "one-layer": {"r": 4, "layers_to_transform": [1], "layers_pattern": "layer"},
    "query-only": {"r": 8, "target_modules": ["query"]},
    "excluding": {"r": 4, "exclude_modules": r".*layer\.0.*value"},
    "dora": {"r": 4, "use_dora": True},
    "dora-rslora": {"r": 3, "use_dora": True, "use_rslora": True, "target_modules": ["value"]},
    "lora-bias": {"r": 4, "lora_bias": True},
    "lora-only-bias": {"r": 4, "bias": "lora_only"},
    "mica": {"r": 4, "init_lora_weights": "mica"},
    "pissa": {"r": 4, "init_lora_weights": "pissa"},
    "olora": {"r": 3, "lora_alpha": 5, "init_lora_weights": "olora"},
}
CONVERTED = ("pissa", "olora")
"""They change the base weights, and are saved as plain LoRA."""


def save_initial(model: peft.PeftModel, folder: Path) -> None:
    """Save an adapter before training, as PEFT's page on PiSSA does."""
    config = model.peft_config["default"]
    start, config.init_lora_weights = config.init_lora_weights, True
    model.save_pretrained(str(folder))
    config.init_lora_weights = start


def save_converted(model: peft.PeftModel, folder: Path, initial: Path) -> None:
    """Save a trained adapter as plain LoRA, with the head, which PEFT leaves out."""
    tensors = peft.get_peft_model_state_dict(model)
    model.save_pretrained(str(folder), path_initial_model_for_weight_conversion=str(initial))
    head = {name: tensor for name, tensor in tensors.items() if ".lora_" not in name}
    save_file({**load_file(folder / TENSORS), **head}, folder / TENSORS)


@pytest.fixture(scope="module")
def oracles(
    exported_family: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Engine, dict[str, peft.PeftModel]]:
    """An engine with one task a variant, and PEFT's own model for each."""
    root, exported = tmp_path_factory.mktemp("peft"), exported_family("bert")
    models: dict[str, peft.PeftModel] = {}
    for number, (task, options) in enumerate(VARIANTS.items()):
        torch.manual_seed(number)
        base = transformers.AutoModelForSequenceClassification.from_pretrained(
            exported / "source", num_labels=2 + number
        )
        config = peft.LoraConfig(task_type=peft.TaskType.SEQ_CLS, **{"target_modules": ["query", "value"], **options})
        models[task] = peft.get_peft_model(base, config).eval()
        save_initial(models[task], root / "initial" / task)
        with torch.no_grad():
            for name, parameter in models[task].named_parameters():
                if parameter.requires_grad and "magnitude" not in name:
                    parameter.normal_(0, 0.3)
                elif parameter.requires_grad:
                    parameter.mul_(torch.rand_like(parameter) + 0.5)
        if task in CONVERTED:
            save_converted(models[task], root / task, root / "initial" / task)
        else:
            models[task].save_pretrained(str(root / task))
        (root / task / "task.json").write_text(json.dumps({"id": task, "levels": list(range(2 + number))}))
    repository = tmp_path_factory.mktemp("repository")
    shutil.copytree(exported / "backbone", repository / "backbone")
    backbone = Backbone.open(repository / "backbone" / "1")
    Store(repository / "store").add([root / task for task in VARIANTS], backbone)
    return Engine.open(repository), models


def test_variants_get_pefts_logits(
    oracles: tuple[Engine, dict[str, peft.PeftModel]], exported_family: Callable[[str], Path]
) -> None:
    engine, models = oracles
    tokenizer = transformers.AutoTokenizer.from_pretrained(exported_family("bert") / "source")
    draw = random.Random(3)
    texts = [" ".join(draw.choices(WORDS, k=draw.randint(0, 70))) for _ in range(60)]
    tasks = [list(VARIANTS)[i % len(VARIANTS)] for i in range(len(texts))]
    logits = engine.logits(texts, tasks)
    for text, task, row in zip(texts, tasks, logits, strict=True):
        with torch.inference_mode():
            tokens = tokenizer(text, truncation=True, max_length=66, return_tensors="pt")
            expected = models[task](**tokens).logits[0].numpy()
        assert np.abs(row[: len(expected)] - expected).max() <= TOLERANCE["float32"]
        assert np.isnan(row[len(expected) :]).all()


def test_the_variants_differ_in_the_first_place(oracles: tuple[Engine, dict[str, peft.PeftModel]]) -> None:
    engine, _ = oracles
    logits = engine.logits(["the router hands out addresses"] * len(VARIANTS), list(VARIANTS))[:, :2]
    gaps = np.abs(logits[:, None] - logits[None]).max(axis=2) + np.eye(len(VARIANTS))
    assert gaps.min() > 100 * TOLERANCE["float32"]


LAYER = "bert.encoder.layer."
FORMS: dict[str, dict[str, Any]] = {
    "list": {"target_modules": ["query", "value"]},
    "regex": {"target_modules": r".*layer\.1\.attention\.self\.key"},
    "all-linear": {"target_modules": "all-linear", "layers_to_transform": None, "use_rslora": True},
    "layers": {"target_modules": ["intermediate.dense"], "layers_to_transform": [0], "layers_pattern": "layer"},
    "excluded": {"target_modules": ["query", "key"], "exclude_modules": r".*layer\.0\..*", "use_dora": True},
    "ranks": {"target_modules": ["query"], "rank_pattern": {"layer.1.attention.self.query": 3}, "lora_bias": True},
    "biases": {"target_modules": ["value"], "bias": "lora_only"},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_encoder(tmp_path_factory.mktemp("bases") / "small-bert")


@pytest.fixture(scope="module")
def trained(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    for seed, (name, keys) in enumerate(FORMS.items()):
        train_adapter(model, folder / name, seed, **keys)
    return folder


@pytest.fixture
def one(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained / "list", tmp_path / "one"))


def change(folder: Path, **keys: Any) -> Path:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **keys}))
    return folder


@pytest.mark.nightly
def test_every_form_is_opened_for_and_scored_as_peft_scores(model: Path, trained: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(export, ["backbone", "--for", str(trained), "--out", str(tmp_path)])
    assert done.exit_code == 0, (done.output, done.exception)
    assert f"7 adapters of {model}" in done.output.replace("\n", "")
    backbone = Backbone.open(tmp_path / "backbone" / "1")
    assert len(backbone.spec.sites) == 13  # six Linears a layer and the pooler's: what all-linear is here
    assert all(site.dora and site.bias for site in backbone.spec.sites)
    Store(tmp_path / "store").add(find_adapters([trained]), backbone)
    engine, tokenizer = Engine.open(tmp_path), transformers.AutoTokenizer.from_pretrained(model)
    texts = ["the router hands out addresses", "no", "a packet is lost and never sent on the network"]
    for name in FORMS:
        oracle = open_with_peft(str(model), trained / name, 3)
        with torch.inference_mode():
            expected = [oracle(**tokenizer(text, return_tensors="pt")).logits[0].numpy() for text in texts]
        assert np.abs(engine.logits(texts, [name] * len(texts)) - expected).max() <= 1e-4, name


def needs(trained: Path, model: Path, *names: str) -> tuple[set[str], bool, bool]:
    adapters = [Adapter.read(trained / name) for name in names]
    opening = opening_for(adapters, transformers.AutoModelForSequenceClassification.from_pretrained(model))
    return set(opening.sites.split(",")), opening.dora, opening.bias


def test_no_more_is_opened_than_is_needed(trained: Path, model: Path) -> None:
    plain = {f"{LAYER}{n}.attention.self.{part}" for n in (0, 1) for part in ("query", "value")}
    assert needs(trained, model, "list") == (plain, False, False)
    assert needs(trained, model, "regex") == ({f"{LAYER}1.attention.self.key"}, False, False)
    assert needs(trained, model, "layers", "regex")[0] == {
        f"{LAYER}0.intermediate.dense",
        f"{LAYER}1.attention.self.key",
    }
    assert needs(trained, model, "list", "excluded")[1:] == (True, False)
    assert needs(trained, model, "biases")[1:] == needs(trained, model, "ranks")[1:] == (False, True)


def test_modules_saved_whole_are_opened_in_all_adapters_or_refused(trained: Path, model: Path, tmp_path: Path) -> None:
    encoder = transformers.AutoModelForSequenceClassification.from_pretrained(model)
    keys = {"target_modules": ["query"], "modules_to_save": ["pooler.dense"]}
    pooled = Adapter.read(train_adapter(model, tmp_path / "pooled", 1, **keys))
    opening = opening_for([pooled], encoder)
    assert opening.modules_to_save == ("bert.pooler.dense",)
    assert list(head_linears(encoder, opening.modules_to_save)) == ["bert.pooler.dense", "classifier"]
    with pytest.raises(ScoremuxError, match=r"list and .*pooled differ in modules_to_save \(bert\.pooler\.dense\)"):
        opening_for([Adapter.read(trained / "list"), pooled], encoder)
    keys["modules_to_save"] = ["LayerNorm"]
    normed = Adapter.read(train_adapter(model, tmp_path / "normed", 1, **keys))
    with pytest.raises(ScoremuxError, match=r"normed/.* a LayerNorm; only Linears may differ \(modules_to_save"):
        opening_for([normed], encoder)
    embedded = train_adapter(model, tmp_path / "embedded", 1, target_modules=["word_embeddings", "query"])
    with pytest.raises(ScoremuxError, match=r"embedded/.*lora_embedding_A.* target_modules must be Linears"):
        Adapter.read(embedded)


def test_adapters_of_another_model_are_refused_by_name(trained: Path, one: Path, model: Path, tmp_path: Path) -> None:
    other = make_encoder(tmp_path / "other-bert")
    adapters = [Adapter.read(folder) for folder in find_adapters([trained])]
    refuse_other_base(adapters, str(model), same_weights=False)
    message = rf"all-linear/adapter_config.json: base_model_name_or_path is {model}, not {other}; .* --same-weights"
    with pytest.raises(ScoremuxError, match=message):
        refuse_other_base(adapters, str(other), same_weights=False)
    refuse_other_base(adapters, str(other), same_weights=True)
    differs = [*adapters, Adapter.read(change(one, base_model_name_or_path="org/other"))]
    with pytest.raises(ScoremuxError, match=r"one/adapter_config.json: base_model_name_or_path is org/other, and"):
        base_model(differs)
    silent = [Adapter.read(change(one, base_model_name_or_path=None))]
    for refusing in (lambda: base_model(silent), lambda: refuse_other_base(silent, str(model), False)):
        with pytest.raises(ScoremuxError, match=r"one/adapter_config.json.* not say .*base_model_name_or_path"):
            refusing()


def test_revision_on_the_hub_is_refused_unless_its_folder_is_given(one: Path, model: Path) -> None:
    change(one, base_model_name_or_path="org/small-bert", revision="v1.0")
    adapters = [Adapter.read(one)]
    with pytest.raises(ScoremuxError, match=r"revision is 'v1\.0', and org/small-bert would be opened at its newest"):
        refuse_other_base(adapters, "org/small-bert", same_weights=False)
    refuse_other_base(adapters, str(model), same_weights=True)
    change(one, revision="main")
    refuse_other_base([Adapter.read(one)], "org/small-bert", same_weights=False)


def test_the_digest_of_the_weights_decides_where_it_is_known(one: Path, model: Path, tmp_path: Path) -> None:
    digest = hashlib.sha256((model / "model.safetensors").read_bytes()).hexdigest()
    change(one, base_model_name_or_path="org/somewhere-else")
    (one / "README.md").write_text(f"---\nlibrary_name: peft\nbase_model_sha256: {digest}\n---\n# Card\n")
    refuse_other_base([Adapter.read(one)], str(model), same_weights=False)
    other = make_encoder(tmp_path / "small-bert", layers=1)
    with pytest.raises(
        ScoremuxError, match=rf"one/README.md: base_model_sha256 is {digest}, and the weights of {other}"
    ):
        refuse_other_base([Adapter.read(one)], str(other), same_weights=True)
    (one / "README.md").write_text("---\nbase_model_sha256: unknown\n---\n")
    with pytest.raises(ScoremuxError, match=r"one/README.md: base_model_sha256 is 'unknown', which is not a sha256"):
        Adapter.read(one)


def test_adapters_are_found_in_folders_and_folders_of_folders(trained: Path, tmp_path: Path) -> None:
    assert [folder.name for folder in find_adapters([trained])] == sorted(FORMS)
    assert find_adapters([trained / "list", trained / "list" / "..", trained / "list"])[0] == trained / "list"
    assert len(find_adapters([trained / "list", trained])) == len(FORMS)
    with pytest.raises(ScoremuxError, match="it does not exist"):
        find_adapters([tmp_path / "nowhere"])
    with pytest.raises(ScoremuxError, match="is not an adapter and does not hold one: neither it nor a folder in"):
        find_adapters([tmp_path])


def test_names_of_one_model(tmp_path: Path) -> None:
    (tmp_path / "MiniLM").mkdir()
    snapshot = tmp_path / "models--org--MiniLM" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    assert same_model("org/MiniLM", "org/MiniLM")
    assert same_model("org/MiniLM", str(tmp_path / "MiniLM"))
    assert same_model(str(snapshot), "org/MiniLM")
    assert same_model(str(tmp_path / "MiniLM"), f"{tmp_path}/x/../MiniLM") is False
    assert not same_model("org/MiniLM", "other/MiniLM")
    assert not same_model("org/Mini", str(tmp_path / "MiniLM"))
    assert not same_model("MiniLM", str(snapshot))
