"""Which Linears become sites, what reads prefixes, and how graphs are compared."""

import copy
from pathlib import Path
from typing import Any

import peft
import pytest
import tokenizers
import torch
import transformers
from huggingface_hub import constants
from torch import nn

from scoremux_engine.bank.residents import Version
from scoremux_engine.model.backbone import Site
from scoremux_engine.model.buckets import SizeClass, padded_prefix
from scoremux_engine.model.tokens import Tokenizer
from scoremux_engine.packages.task import Task
from scoremux_export.errors import ModelError
from scoremux_export.opening.classifier import Classifier
from scoremux_export.opening.openable import find_sites, head_linears
from scoremux_export.opening.opened import OpenHeadLinear, OpenSite, SiteInputs
from scoremux_export.opening.prefix import find_prefix_layers

LAYER = "bert.encoder.layer.{}.attention.self.{}"


@pytest.fixture(scope="module")
def bert(encoder: Path) -> Any:
    return transformers.AutoModelForSequenceClassification.from_pretrained(encoder)


@pytest.fixture(scope="module")
def roberta() -> Any:
    """A model whose head has two Linears, one of them named like many in the backbone."""
    config = transformers.RobertaConfig(
        vocab_size=50,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=20,
    )
    return transformers.RobertaForSequenceClassification(config)


def targeted(model: nn.Module, target_modules: str | list[str]) -> set[str]:
    config = peft.LoraConfig(task_type=peft.TaskType.SEQ_CLS, r=2, target_modules=target_modules)
    return set(peft.get_peft_model(copy.deepcopy(model), config).base_model.targeted_module_names)


def test_a_site_of_the_head_alone_is_refused(roberta: Any) -> None:
    with pytest.raises(ModelError, match=r"no module is named out_proj; this model's Linears are: dense, key, query"):
        find_sites(roberta, "out_proj")


NO_LINEAR = {"word_embeddings": "Embedding", "LayerNorm": "LayerNorm", "query,attention": "BertAttention"}


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        ("uery", "no module is named uery"),
        ("query,q_proj", r"no module is named q_proj; this model's Linears are: dense, key, query, va"),
        ("re:.*q_proj", r"dense.*key.*query.*value"),
        *((wanted, "matches no module") for wanted in ("re:query", "", ",", " ")),
        ("re:(", r"--sites re:\( is not a regular expression"),
        *(
            (wanted, rf"bert\..* is a {kind}, not a Linear, and cannot be a site")
            for wanted, kind in {**NO_LINEAR, r"re:bert\.encoder": "BertEncoder"}.items()
        ),
    ],
)
def test_what_names_no_linear_is_refused(bert: Any, wanted: str, sentence: str) -> None:
    with pytest.raises(ModelError, match=sentence):
        find_sites(bert, wanted)


@pytest.mark.parametrize(
    "wanted",
    [
        "query",
        "query,value",
        "dense",
        "output.dense",
        "attention.output.dense,pooler.dense",
        LAYER.format(1, "value"),
        r"re:.*layer\.0\..*(query|key)",
        r"re:bert\.encoder\.layer\.\d+\.intermediate\.dense",
        "all-linear",
    ],
)
@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_the_sites_are_the_modules_that_peft_targets(kind: str, wanted: str, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(kind)
    wanted = wanted if kind == "bert" else wanted.replace("bert", "roberta").replace("layer.1", "layer.0")
    if kind == "roberta":
        wanted = wanted.replace(",pooler.dense", "")
    literal = wanted == "all-linear" or wanted.startswith("re:")
    asked = wanted.removeprefix("re:") if literal else wanted.split(",")
    assert set(find_sites(model, wanted)) == targeted(model, asked)


def test_a_head_is_every_linear_in_modules_named_like_one_the_one_for_levels_last(bert: Any, roberta: Any) -> None:
    assert list(head_linears(bert)) == ["classifier"]
    assert list(head_linears(roberta)) == ["classifier.dense", "classifier.out_proj"]
    config = transformers.DistilBertConfig(vocab_size=50, dim=16, n_layers=1, n_heads=2, hidden_dim=16)
    model = transformers.DistilBertForSequenceClassification(config)
    assert list(head_linears(model)) == ["pre_classifier", "classifier"]


def test_modules_that_adapters_save_whole_come_before_the_head_and_are_no_sites(bert: Any) -> None:
    assert list(head_linears(bert, ["pooler.dense"])) == ["bert.pooler.dense", "classifier"]
    assert "bert.pooler.dense" not in find_sites(bert, "dense", ["pooler.dense"])


@pytest.mark.parametrize(
    ("kind", "also"),
    [("bert", ()), ("bert", ("pooler.dense",)), ("bert", ("dense",)), ("roberta", ()), ("roberta", ("output.dense",))],
)
def test_the_head_is_what_peft_saves_whole(kind: str, also: tuple[str, ...], request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(kind)
    options = {"task_type": peft.TaskType.SEQ_CLS, "target_modules": ["query"], "modules_to_save": list(also) or None}
    adapted = peft.get_peft_model(copy.deepcopy(model), peft.LoraConfig(r=2, **options))
    saved = {name.rpartition(".")[0] for name in peft.get_peft_model_state_dict(adapted) if ".lora_" not in name}
    assert {f"base_model.model.{name}" for name in head_linears(model, also)} == saved


def test_a_model_without_a_linear_in_a_head_is_refused(bert: Any) -> None:
    with pytest.raises(ModelError, match=r"BertModel has no Linear in a head named classifier or score"):
        find_sites(bert.bert, "query")
    with pytest.raises(ModelError, match=r"has no Linear in a head named classifier or score"):
        head_linears(nn.ModuleDict({"classifier": nn.Identity()}))


@pytest.mark.parametrize("shape", [(16, 8), (16, 4, 8), (2, 2, 4, 8)], ids=["tokens", "tokens first", "chunks"])
def test_linear_that_is_not_called_row_by_row_is_no_site(shape: tuple[int, ...]) -> None:
    site = Site(name="query", d_in=8, d_out=8)
    opened = OpenSite(site, nn.Linear(8, 8), SiteInputs(group=torch.zeros(4, dtype=torch.int64)))
    with pytest.raises(ModelError, match="query is called with"):
        opened(torch.zeros(shape))


def test_linear_that_reads_every_token_cannot_be_saved_whole() -> None:
    with pytest.raises(ModelError, match=r"query reads every token, .*modules_to_save"):
        OpenHeadLinear("query", SiteInputs(group=torch.zeros(2, dtype=torch.int64)), is_last=False)(
            torch.zeros(2, 4, 8)
        )


def test_a_model_that_is_nowhere_is_named_without_asking_the_hub_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", "http://127.0.0.1:1/{repo_id}/{revision}/{filename}")
    with pytest.raises(ModelError, match=r"nomodel is neither a folder nor a model that http://127\.0\.0\.1:1 has"):
        Classifier.open("nomodel")
    assert "Retrying" not in caplog.text


PAD = 0


@pytest.mark.parametrize(("kind", "layers"), [("LlamaConfig", 2), ("OPTConfig", 0), ("BertConfig", 0)])
def test_layers_read_prefixes_where_positions_do_not_end(kind: str, layers: int) -> None:
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 64}
    widths = {"vocab_size": 50, "intermediate_size": 64, "ffn_dim": 64, "word_embed_proj_dim": 32}
    config = getattr(transformers, kind)(**sizes, **widths, pad_token_id=0, use_cache=False)
    model = transformers.AutoModelForSequenceClassification.from_config(config, attn_implementation="eager").eval()
    assert len(find_prefix_layers(model)) == layers


def make_tokenizer(*merges: tuple[str, str]) -> Tokenizer:
    """Return a tokenizer of single characters that merges these; `~` is the padding token."""
    letters = ["~", *map(chr, range(32, 126)), "?"]
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys([*letters, *(a + b for a, b in merges)]))}
    model = tokenizers.models.BPE(vocabulary, list(merges), unk_token="?")
    return Tokenizer(tokenizers.Tokenizer(model), 64)


def make_version(template: str, tokenizer: Tokenizer) -> Version:
    task = Task(id="t", levels=(0, 1), input={"template": template})
    return Version(task, "", SizeClass(16, 8), 2, prefix=tokenizer.prefix(task.render))


def behind(version: Version, tokenizer: Tokenizer, response: str) -> int:
    """Return after how many characters the row of a response is computed."""
    ids = tokenizer.encode([version.task.render(response)])[0].ids
    return version.prefix_tokens(ids, PAD)


def test_a_prefix_is_all_that_precedes_the_response_and_does_not_merge_with_it() -> None:
    tokenizer = make_tokenizer()
    version = make_version("why? {response}.", tokenizer)
    assert len(version.prefix) == 5
    assert [behind(version, tokenizer, text) for text in ("", "it is", "why? ")] == [5, 5, 5]
    tokenizer = make_tokenizer((" ", "a"), ("?", " "))
    version = make_version("why? {response}.", tokenizer)
    assert len(version.prefix) == 3
    assert behind(version, tokenizer, "it is") == behind(version, tokenizer, "a") == 3
    tokenizer = make_tokenizer((" ", "q"))
    version = make_version("why? {response}.", tokenizer)
    assert len(version.prefix) == 5
    assert [behind(version, tokenizer, text) for text in ("q", "a q")] == [0, 5]


def test_a_padded_length_is_a_function_of_the_prefix_and_leaves_a_token_that_is_no_padding() -> None:
    tokenizer = make_tokenizer()
    version = make_version("why? {response}", tokenizer)
    assert len(version.prefix) == 4
    assert [behind(version, tokenizer, text) for text in ("", "~~", "~a")] == [4, 4, 4]
    version = make_version("why?~~{response}", tokenizer)
    assert [behind(version, tokenizer, text) for text in ("", "~~", "~a", "a")] == [0, 0, 5, 5]
    assert [padded_prefix(n) for n in (0, 16, 32, 33, 200, 1024, 1025)] == [0, 32, 32, 48, 256, 1024, 2048]
