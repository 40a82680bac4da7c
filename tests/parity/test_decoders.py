"""Decoders: what is served is what PEFT gives for each text alone; what cannot be served is refused by name."""

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer as HuggingFaceTokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from families import DECODERS, each_family, kinds_of, make_family
from making import WORDS
from mixed_store import open_with_peft
from model_inputs import TOKENIZERS, compare_with_transformers, make_tokenizer
from pages import blocks
from saf import minilm, needs_minilm
from scoremux_engine import Engine
from scoremux_engine.model.backbone import HeadLinear
from scoremux_engine.model.inputs import Rendered
from scoremux_engine.model.tokens import Tokenizer
from scoremux_engine.packages.package_files import PackageFiles
from scoremux_engine.runners.choose import REFERENCE, RunnerChoice
from scoremux_engine.store.store import Store
from scoremux_export.errors import ModelError
from scoremux_export.export_graph import export_backbone
from scoremux_export.opening.classifier import MOST_TOKENS, Classifier
from scoremux_export.opening.openable import Opening, find_sites

# What the tokenizers of `families` read as special tokens, the padding token among them.
ODD = ("[PAD]", "[CLS]", "[SEP]")


@dataclass
class Distance:
    """From PEFT: the largest |Δlogit|, and how many levels differ."""

    max_abs_difference: float = 0.0
    levels: int = 0


def distance_from_peft(
    repository: Path, family: str, rows: int, seed: int, runner: RunnerChoice = REFERENCE
) -> Distance:
    """Score random texts of all tasks in one batch, and each alone and unpadded with PEFT's own model."""
    engine, draw = Engine.open(repository, runner=runner), random.Random(seed)
    kinds = kinds_of(family)
    words = [*WORDS, *ODD]
    texts = [" ".join(draw.choices(words, k=draw.randint(0, 60))) for _ in range(rows)]
    tasks = [draw.randrange(len(kinds)) for _ in range(rows)]
    names = [f"t-{task}" for task in tasks]
    logits, scored = engine.logits(texts, names), engine.score(texts, names)
    tokenizer = transformers.AutoTokenizer.from_pretrained(repository / "source")
    found = Distance()
    for task, kind in enumerate(kinds):
        outputs = kind.outputs or kind.levels
        oracle = open_with_peft(str(repository / "source"), repository / "adapters" / f"t-{task}", outputs)
        given = PackageFiles(repository / "adapters" / f"t-{task}").task
        for row in (row for row, own in enumerate(tasks) if own == task):
            text = given.render(texts[row])
            parts = [[part] for part in ((text,) if isinstance(text, str) else text.texts)]
            tokens = tokenizer(*parts, truncation=True, max_length=engine.backbone.spec.max_tokens)
            with torch.inference_mode():
                expected = oracle(
                    input_ids=torch.tensor(tokens["input_ids"]), attention_mask=torch.tensor(tokens["attention_mask"])
                ).logits[0]
            difference = float(np.abs(logits[row, :outputs] - expected.numpy()).max())
            found.max_abs_difference = max(found.max_abs_difference, difference)
            if outputs == 1:
                level = min(range(kind.levels), key=lambda place: abs(place - float(expected)))
            else:
                level = int(expected.argmax())
            found.levels += scored[row].level != level
    return found


Families = Callable[[str], Path]


@pytest.fixture(scope="module", params=["qwen3", pytest.param("gemma3", marks=pytest.mark.nightly)])
def repository(family_repository: Families, request: pytest.FixtureRequest) -> Path:
    """Gemma 3 has more than others: windows that slide, rotary embeddings of two kinds."""
    return family_repository(request.param)


@pytest.mark.parametrize("rows", [30, pytest.param(100, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("family", each_family(DECODERS))
def test_rows_of_all_kinds_in_one_batch_get_pefts_logits_and_levels(
    family: str, rows: int, family_repository: Families
) -> None:
    distance = distance_from_peft(family_repository(family), family, rows, seed=1)
    assert 0 < distance.max_abs_difference <= 1e-4
    assert distance.levels == 0


def test_a_prefix_changes_no_level_and_hardly_a_logit(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = Engine.open(repository).bank.tasks
    rows = [(text, task) for text in ("", "[PAD]", "[PAD] [PAD]", "the router", "hosts " * 60) for task in ids]
    texts, names = zip(*rows, strict=True)
    behind = Engine.open(repository)
    with behind.bank.checkout() as versions:
        found = [versions.find(task) for task in ids]
    assert {version.size.prefix for version in found} == {0, 48, 128}
    monkeypatch.setattr("scoremux_engine.packages.package.LEAST_PREFIX_TOKENS", 1000)
    whole = Engine.open(repository)
    assert 0 < np.nanmax(np.abs(behind.logits(texts, names) - whole.logits(texts, names))) <= 1e-4
    assert [s.level for s in behind.score(texts, names)] == [s.level for s in whole.score(texts, names)]


def test_a_prefix_has_the_same_bits_after_a_restart_and_in_a_bank_that_forgets(repository: Path) -> None:
    draw = random.Random(3)
    texts = [" ".join(draw.choices(WORDS, k=draw.randint(0, 60))) for _ in range(40)]
    first, again = Engine.open(repository), Engine.open(repository)
    forgets = Engine.open(repository, bank_bytes=300_000)
    names = draw.choices(first.bank.tasks, k=len(texts))
    expected = first.logits(texts, names)
    assert again.logits(texts, names).tobytes() == expected.tobytes()
    for row in draw.sample(range(len(texts)), 20):
        assert forgets.logits([texts[row]], [names[row]])[0].tobytes() == expected[row].tobytes()
    assert forgets.bank.stats.evictions > 0
    assert forgets.bank.stats.used_bytes <= 300_000


def test_every_version_is_scored_behind_the_prefix_of_its_own_question(repository: Path, tmp_path: Path) -> None:
    shutil.copytree(repository, tmp_path / "repository")
    store, text = Store(tmp_path / "repository" / "store"), "the router hands out addresses"
    engine = Engine.open(tmp_path / "repository", bank_bytes=300_000)
    old, before = store.manifest().tasks["t-6"], engine.logits([text], ["t-6"]).tobytes()
    described = json.loads((repository / "adapters" / "t-6" / "task.json").read_text())
    folder = Path(shutil.copytree(repository / "adapters" / "t-6", tmp_path / "changed"))
    (folder / "task.json").write_text(json.dumps({**described, "question": " ".join(WORDS[::-1])}))
    store.add([folder], engine.backbone)
    fresh = Engine.open(tmp_path / "repository").logits([text], ["t-6"]).tobytes()
    for _ in range(3):
        assert engine.logits([text], ["t-6"]).tobytes() == fresh != before
        assert engine.logits([text], [f"t-6@{old}"]).tobytes() == before
        engine.logits([text] * len(engine.bank.tasks), engine.bank.tasks)  # others take the room


def test_a_text_without_tokens_is_scored_alone_as_beside_others(repository: Path) -> None:
    engine = Engine.open(repository)
    words = transformers.AutoTokenizer.from_pretrained(repository / "source").backend_tokenizer
    words.post_processor = None  # no token that starts a text
    engine.backbone.tokenizer = type(engine.backbone.tokenizer)(words, engine.backbone.spec.max_tokens)
    alone, long = engine.score([""], ["t-0"])[0], "the router " * 20
    assert (alone.ok, alone.tokens) == (True, 0)
    assert engine.score([long, "", "the"], ["t-1", "t-0", "t-0"])[1] == alone


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    """A decoder as hubs have them, without a padding token in the model and in the tokenizer."""
    folder = make_family("llama", tmp_path / "llama")
    change(folder, model_pad=None, pad_token=None, eos_token="[SEP]")
    return folder


def change(folder: Path, model_pad: int | None, *, ends: bool = False, **tokens: str | None) -> None:
    """Save the folder's model with another padding token, and its tokenizer with other special tokens."""
    config = transformers.AutoConfig.from_pretrained(folder)
    config.pad_token_id = model_pad
    config.save_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    for name, token in tokens.items():
        setattr(tokenizer, name, token)
    if ends:
        special = [(token, tokenizer.convert_tokens_to_ids(token)) for token in ("[CLS]", "[SEP]")]
        made = tokenizer.backend_tokenizer
        made.post_processor = type(made.post_processor)(single="[CLS] $A [SEP]", special_tokens=special)
    tokenizer.save_pretrained(folder)


def test_the_padding_token_is_the_models_the_tokenizers_or_the_one_that_ends_texts_but_not_all(llama: Path) -> None:
    end = transformers.AutoTokenizer.from_pretrained(llama).eos_token_id
    assert Classifier.open(str(llama)).pad_id == end
    change(llama, model_pad=None, pad_token="[UNK]")
    opened = Classifier.open(str(llama))
    assert opened.pad_id == opened.model.config.pad_token_id == opened.tokenizer.unk_token_id
    change(llama, model_pad=7)
    assert Classifier.open(str(llama)).pad_id == 7
    change(llama, model_pad=None, pad_token=None, ends=True)
    with pytest.raises(ModelError, match=r"no padding token: set tokenizer\.pad_token and model\.config\.pad_token_id"):
        Classifier.open(str(llama))


def test_the_most_tokens_of_a_text_can_be_set_within_the_models_limit(llama: Path) -> None:
    assert Classifier.open(str(llama)).max_tokens == 66
    assert Classifier.open(str(llama), 40).max_tokens == 40
    with pytest.raises(ModelError, match=r"--max-tokens is 67, but .* takes 66 tokens at most"):
        Classifier.open(str(llama), 67)
    config = transformers.AutoConfig.from_pretrained(llama)
    config.max_position_embeddings = 32_768
    config.save_pretrained(llama)
    assert Classifier.open(str(llama)).max_tokens == MOST_TOKENS


def test_rotary_embeddings_that_follow_the_batch_are_kept_within_their_first_limit(llama: Path) -> None:
    config = transformers.AutoConfig.from_pretrained(llama)
    scaled = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10_000.0}
    config.update({"max_position_embeddings": 132, "rope_parameters": scaled})
    config.save_pretrained(llama)
    opened = Classifier.open(str(llama))
    assert opened.max_tokens == 132
    with torch.inference_mode():
        short = torch.full((1, 9), 5)
        before = opened.model(short).logits
        opened.model(torch.full((1, 140), 5))
        assert torch.equal(opened.model(short).logits, before)


def test_weights_that_the_source_lacks_are_refused_unless_adapters_save_them(tmp_path: Path) -> None:
    source = make_family("modernbert-decoder", tmp_path / "source")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(source)
    model.model.save_pretrained(source)
    opened = Classifier.open(str(source))
    assert opened.random == {"head.dense", "classifier"}
    with pytest.raises(ModelError, match=r"no weights for head\.dense"):
        export_backbone(str(source), Opening("Wo"), tmp_path / "repository")
    opened.refuse_random(HeadLinear(name=name, d_in=8, d_out=8) for name in ("head.dense", "classifier"))


@pytest.mark.parametrize("sites", ["c_attn", "all-linear"])
def test_the_conv1d_of_gpt2_is_refused_by_name(sites: str) -> None:
    config = transformers.GPT2Config(vocab_size=50, n_positions=16, n_embd=8, n_layer=1, n_head=2)
    model = transformers.GPT2ForSequenceClassification(config)
    with pytest.raises(ModelError, match=r"transformer\.h\.0\.attn\.c_attn is a Conv1D, not a Linear"):
        find_sites(model, sites)


def test_an_encoder_decoder_is_refused_by_name(llama: Path, tmp_path: Path) -> None:
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    config = transformers.BartConfig(vocab_size=50, d_model=16, encoder_layers=1, decoder_layers=1, **heads)
    transformers.BartForSequenceClassification(config).save_pretrained(tmp_path / "bart")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(llama / name, tmp_path / "bart" / name)
    with pytest.raises(ModelError, match="is an encoder-decoder"):
        Classifier.open(str(tmp_path / "bart"))


CASES = 60


@pytest.mark.parametrize("cases", [CASES, pytest.param(30 * CASES, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("name", TOKENIZERS)
def test_tokens_of_random_responses_are_those_of_transformers(name: str, cases: int, tmp_path: Path) -> None:
    checked = compare_with_transformers(make_tokenizer(name, tmp_path / name), cases, random.Random(name))
    assert checked.different == []
    assert cases // 8 < checked.cut < cases


@needs_minilm
def test_tokens_of_a_real_tokenizer_are_those_of_transformers_and_of_the_page() -> None:
    checked = compare_with_transformers(minilm(), 2 * CASES, random.Random(5))
    assert checked.different == []
    assert checked.cut > CASES // 8
    (block,) = (block for block in blocks("export/README.md") if block.language == "python")
    names: dict[str, Any] = {}
    exec(compile(block.text.replace("MODEL", str(minilm())), block.where, "exec"), names)
    auto = transformers.AutoTokenizer.from_pretrained(minilm())
    assert names["row"].ids == auto(["Why does ice float?\nAnswer: "])["input_ids"][0]


def test_a_pair_has_its_types_where_a_tokenizer_has_no_post_processor() -> None:
    words = WordLevel({"[UNK]": 0, "why": 1, "heat": 2, "rises": 3}, unk_token="[UNK]")
    bare = HuggingFaceTokenizer(words)
    bare.pre_tokenizer = Whitespace()
    (tokens,) = Tokenizer.of(bare, 8).encode([Rendered(("why heat", "heat rises"), 1, 10)])
    assert (tokens.ids, tokens.types) == ([1, 2, 2, 3], [0, 0, 1, 1])
