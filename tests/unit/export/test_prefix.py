"""What responses to a task begin with, and which rows are computed behind it."""

from __future__ import annotations

import pytest
import tokenizers
import transformers

from scoremux_engine.bank.residents import Version
from scoremux_engine.model.buckets import SizeClass, padded_prefix
from scoremux_engine.model.tokens import Tokenizer
from scoremux_engine.packages.task import Task
from scoremux_export.opening.prefix import find_prefix_layers

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


def test_a_prefix_is_all_that_precedes_the_response() -> None:
    tokenizer = make_tokenizer()
    version = make_version("why? {response}.", tokenizer)
    assert len(version.prefix) == 5
    assert [behind(version, tokenizer, text) for text in ("", "it is", "why? ")] == [5, 5, 5]


def test_a_prefix_ends_before_what_merges_with_a_response() -> None:
    tokenizer = make_tokenizer((" ", "a"), ("?", " "))
    version = make_version("why? {response}.", tokenizer)
    assert len(version.prefix) == 3
    assert behind(version, tokenizer, "it is") == behind(version, tokenizer, "a") == 3


def test_a_row_that_merges_with_the_prefix_after_all_is_computed_whole() -> None:
    tokenizer = make_tokenizer((" ", "q"))
    version = make_version("why? {response}.", tokenizer)
    assert len(version.prefix) == 5
    assert [behind(version, tokenizer, text) for text in ("q", "a q")] == [0, 5]


def test_a_token_that_is_no_padding_is_left_to_compute() -> None:
    tokenizer = make_tokenizer()
    version = make_version("why? {response}", tokenizer)
    assert len(version.prefix) == 4
    assert [behind(version, tokenizer, text) for text in ("", "~~", "~a")] == [4, 4, 4]
    version = make_version("why?~~{response}", tokenizer)
    assert [behind(version, tokenizer, text) for text in ("", "~~", "~a", "a")] == [0, 0, 5, 5]


def test_a_padded_length_is_a_function_of_the_prefix_alone() -> None:
    assert [padded_prefix(n) for n in (0, 16, 32, 33, 200, 1024, 1025)] == [0, 32, 32, 48, 256, 1024, 2048]
