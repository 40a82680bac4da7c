"""`adapter_config.json`: which of PEFT's variants are served, and what rank and scaling a site gets."""

import re
from pathlib import Path
from typing import Any

import pytest

from making import make_adapter
from scoremux_engine.errors import PackageError
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.packages.package_files import PackageFiles

QUERY = "bert.encoder.layer.0.attention.self.query"
VALUE = "bert.encoder.layer.1.attention.self.value"


@pytest.fixture
def read(bare: Backbone, tmp_path: Path) -> Any:
    """Read the config of an adapter folder that was made with some keys replaced."""
    return lambda config: PackageFiles(make_adapter(tmp_path / "adapter", bare.spec, "t", config=config)).config


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("peft_type", [None, "IA3", "ADALORA", "LOHA", "lora", "PROMPT_TUNING"]),
        ("task_type", [None, "FEATURE_EXTRACTION", "TOKEN_CLS", "CAUSAL_LM"]),
        ("bias", ["all", "some", None]),
        ("init_lora_weights", ["pissa", "pissa_niter_4", "olora", "corda", "loftq", "lora_ga"]),
        ("use_qalora", [True]),
        ("target_parameters", [["mlp.weight"]]),
        ("trainable_token_indices", [[3]]),
        ("alora_invocation_tokens", [[1, 2]]),
        ("use_bdlora", [{"nblocks": 2}]),
        ("kasa_config", [{"beta": 1}]),
        ("layer_replication", [[[0, 1], [0, 1]]]),
        ("never_heard_of", [1]),
        ("r", [0, -4, 4097, 2.5, "many", None]),
        ("lora_alpha", [0, "x", None]),
        ("rank_pattern", [{"query": "x"}, [1]]),
        ("alpha_pattern", [{"query": []}, 3]),
    ],
)
def test_unsupported_or_invalid_value_is_refused_by_key(read: Any, key: str, values: list[Any]) -> None:
    shown = key not in ("r", "lora_alpha", "rank_pattern", "alpha_pattern")
    for value in values:
        with pytest.raises(PackageError, match=rf"adapter_config\.json: {key}{' is ' if shown else ''}") as caught:
            read({key: value})
        assert not shown or repr(value)[:40] in str(caught.value)


@pytest.mark.parametrize(
    "config",
    [
        *({"init_lora_weights": start} for start in (True, False, "gaussian", "orthogonal", "eva", "mica")),
        *({"use_qalora": off, "never_heard_of": off} for off in (None, False, [], {})),
    ],
    ids=str,
)
def test_harmless_start_and_variant_that_is_off_are_read(read: Any, config: dict[str, Any]) -> None:
    assert read(config).r == 4


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000])
def test_file_that_is_not_a_json_object_is_refused(bare: Backbone, tmp_path: Path, text: str) -> None:
    folder = make_adapter(tmp_path, bare.spec, "t")
    (folder / "adapter_config.json").write_text(text)
    with pytest.raises(PackageError, match=r"adapter_config\.json: it is not (JSON|a JSON object)"):
        assert PackageFiles(folder).config


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ({}, 4),
        ({"query": 2}, 2),
        ({"self.query": 2}, 2),
        ({QUERY: 2}, 2),
        ({"uery": 2}, 4),
        ({"attention": 2}, 4),
        ({"value": 2}, 4),
        ({"query|value": 2}, 2),
        ({r"layer\.0\..*": 2}, 2),
        ({r"layer\.1\..*": 2}, 4),
        ({"^query": 2}, 4),
        ({"^bert.*query": 2}, 2),
        ({"query": 2, "self.query": 3}, 2),
        ({"self.query": 3, "query": 2}, 3),
        ({"QUERY": 2}, 4),
        ({"self(.query|.value)": 2}, 2),
        ({r"layer\.[0-3]\.\w+\.self\.(?:query|key)": 2}, 2),
        ({r"layer\.\d{1,2}\.attention\.self.query$": 2}, 2),
        ({r"layer.+que?ry": 2}, 2),
        ({r"ayer.0.attention.self.query": 2}, 4),
        ({r"bert_encoder": 2, "^query|self": 2}, 4),
    ],
    ids=str,
)
def test_first_pattern_that_matches_whole_parts_decides(read: Any, patterns: dict[str, int], expected: int) -> None:
    assert read({"rank_pattern": patterns}).rank(QUERY) == expected


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_rslora": True},
        {"rank_pattern": {r"layer\.0\..*query": 2, "query": 3}, "alpha_pattern": {"self.value": 7}},
        {"use_rslora": True, "rank_pattern": {"^bert.*value": 5}, "alpha_pattern": {r"1\.attention.*": 9, "value": 1}},
    ],
    ids=str,
)
def test_rank_and_scaling_are_those_of_peft(encoder: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    import peft
    import transformers

    base = transformers.AutoModelForSequenceClassification.from_pretrained(encoder)
    wanted = peft.LoraConfig(task_type="SEQ_CLS", r=4, lora_alpha=6, target_modules=["query", "value"], **options)
    model = peft.get_peft_model(base, wanted)
    model.save_pretrained(str(tmp_path))
    config = PackageFiles(tmp_path).config
    sites = {n: m for n, m in model.base_model.model.named_modules() if isinstance(m, peft.tuners.lora.Linear)}
    assert len(sites) == 4
    for name, module in sites.items():
        assert config.rank(name) == module.r["default"]
        assert config.scaling(name) == pytest.approx(module.scaling["default"])


@pytest.mark.parametrize(
    "options",
    [
        {"target_modules": ["query", "attention.output.dense"]},
        {"target_modules": ["query", "dense"], "exclude_modules": ["output.dense", "pooler.dense"]},
    ],
    ids=str,
)
def test_modules_that_peft_leaves_out_are_left_out(encoder: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    import peft
    import torch
    import transformers

    base = transformers.AutoModelForSequenceClassification.from_pretrained(encoder)
    linears = [n for n, m in base.bert.named_modules(prefix="bert") if isinstance(m, torch.nn.Linear)]
    model = peft.get_peft_model(base, peft.LoraConfig(task_type="SEQ_CLS", r=4, **options))
    model.save_pretrained(str(tmp_path))
    config = PackageFiles(tmp_path).config
    adapted = {n for n, m in model.base_model.model.named_modules() if isinstance(m, peft.tuners.lora.Linear)}
    assert adapted
    assert {name for name in linears if not config.leaves_out(name)} == adapted


def test_regular_expression_leaves_nothing_out_and_one_that_is_not_supported_gives_no_rank(read: Any) -> None:
    config = read({"target_modules": r".*key", "exclude_modules": r".*"})
    assert not config.leaves_out(QUERY) and not config.leaves_out(VALUE)
    for pattern in ("query(", "[z-a]"):
        with pytest.raises(PackageError, match=re.escape(repr(pattern))):
            read({"rank_pattern": {pattern: 2}}).rank(QUERY)
