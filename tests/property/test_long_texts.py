"""Long texts without their middle have the tokens of the whole, whatever the tokenizer and the text."""

from __future__ import annotations

import random
import time
from functools import cache
from pathlib import Path

import pytest
import transformers
from tokenizers import AddedToken, Regex, normalizers, pre_tokenizers
from tokenizers import Tokenizer as HuggingFaceTokenizer
from tokenizers.models import BPE, WordLevel
from tokenizers.pre_tokenizers import PreTokenizer
from tokenizers.trainers import BpeTrainer

from making import WORDS
from model_inputs import TOKENIZERS, draw_response, draw_task, make_tokenizer
from saf import minilm, needs_minilm
from scoremux_engine.model.inputs import ModelInput
from scoremux_engine.model.long_texts import boundary_of, shorten
from scoremux_engine.model.tokens import Tokenizer

MAX_TOKENS = 16
CASES = 150
LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
PIECES = (
    *WORDS, "a", "7", "2024", "it's", "漢", "漢字", "\u0301", "e\u0301", "\u200d", "🙂", "İ", "Σ", "ﬁ", "[SEP]", "</s>",
    "x" * 130, "\n", "\n\n", "\t", "  ", "▁", "Ġ", ".", ",", "``", "''", "1,234.50", "\0", "\ufeff", "한국어", "ع",
)  # fmt: skip


def split(pattern: str) -> PreTokenizer:
    splitters = [pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(use_regex=False)]
    return pre_tokenizers.Sequence(splitters)


MADE = {
    "Llama 3": (None, split(LLAMA_3)),
    "GPT-2 with prefix space": (normalizers.NFKC(), pre_tokenizers.ByteLevel(add_prefix_space=True)),
    "words": (normalizers.Lowercase(), pre_tokenizers.Whitespace()),
    "words and digits": (
        normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()]),
        pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Digits(individual_digits=True)]),
    ),
    "Metaspace": (
        normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(" {2,}", " ")]),
        pre_tokenizers.Metaspace(prepend_scheme="always"),
    ),
    "Llama 2": (normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]), None),
}
"""Tokenizers of byte-pair merges by what comes before the merges; in the last, merges get the whole text."""


READ_WHOLE = ("LlamaTokenizer", "GemmaTokenizer")
"""Tokenizers whose vocabulary, learned from few words, lacks letters; the real ones have them all."""


@cache
def trained(name: str) -> HuggingFaceTokenizer:
    tokenizer = HuggingFaceTokenizer(BPE(unk_token="<unk>"))
    normalizer, splitter = MADE[name]
    if normalizer:
        tokenizer.normalizer = normalizer
    if splitter:
        tokenizer.pre_tokenizer = splitter
    draw = random.Random(1)
    words = [word for piece in draw.choices(PIECES, k=6000) for word in piece.split()]
    tokenizer.train_from_iterator(
        words if name == "Llama 2" else [" ".join(words)],
        BpeTrainer(
            vocab_size=700,
            special_tokens=["<unk>"],
            initial_alphabet=[*map(chr, range(48, 123)), "▁", "Ġ"],
            show_progress=False,
        ),
    )
    return tokenizer


def draw_text(draw: random.Random) -> str:
    """Return a text of some 300 to 5,000 characters: words, odd pieces, runs without any space."""
    separators = draw.choice([(" ",), (" ", " ", ""), ("",), ("\n",), (" ", "  ", "\n"), ("",)])
    pieces = draw.choice([WORDS, PIECES, ("漢", "字"), ("ab", "c")])
    return "".join(draw.choice(pieces) + draw.choice(separators) for _ in range(draw.randrange(60, 500)))


def draw_input(draw: random.Random) -> ModelInput:
    """Return a long response alone or in the input of a task."""
    task, text = draw_task(draw), draw_text(draw)
    return draw.choice([text, task.render(text), task.render(draw_response(draw) + text)])


def tokens_of_whole(tokenizer: HuggingFaceTokenizer, given: ModelInput) -> tuple[list[int], list[int], bool]:
    """Return the ids and types of a whole input, without the last tokens of the response that are too many."""
    texts, side, end = ((given,), 0, len(given)) if isinstance(given, str) else given
    encoding = tokenizer.encode_batch([texts if len(texts) == 2 else texts[0]])[0]
    ids, types, offsets = encoding.ids, encoding.type_ids, encoding.offsets  # each access makes a list
    own = [place for place, sequence in enumerate(encoding.sequence_ids) if sequence == side]
    after = next((place for place in own if offsets[place][1] > end), own[-1] + 1 if own else 0)
    excess = max(0, len(encoding) - MAX_TOKENS)
    kept = (
        [*range(max(0, after - excess)), *range(after, len(encoding))][:MAX_TOKENS] if excess else range(len(encoding))
    )
    return [ids[i] for i in kept], [types[i] for i in kept], excess > 0


def compare(tokenizer: HuggingFaceTokenizer, seed: str) -> tuple[int, list[str]]:
    """Return how many inputs could be shortened, and those whose tokens differ from the whole text's."""
    draw, boundary, head = random.Random(seed), boundary_of(tokenizer), 8 * MAX_TOKENS
    inputs = [draw_input(draw) for _ in range(CASES)]
    different = [
        repr(given)
        for given, tokens in zip(inputs, Tokenizer.of(tokenizer, MAX_TOKENS).encode(inputs), strict=True)
        if (tokens.ids, tokens.types, tokens.truncated) != tokens_of_whole(tokenizer, given)
    ]
    return sum(bool(boundary and shorten(given, boundary, head)) for given in inputs), different


@pytest.mark.parametrize("name", [*TOKENIZERS, *MADE])
def test_shortened_text_has_the_tokens_of_the_whole(name: str, tmp_path: Path) -> None:
    if name in MADE:
        tokenizer = trained(name)
    else:
        tokenizer = transformers.AutoTokenizer.from_pretrained(make_tokenizer(name, tmp_path)).backend_tokenizer
        tokenizer.no_padding()
        tokenizer.no_truncation()
    shortened, different = compare(tokenizer, name)
    assert different == []
    assert shortened > CASES // 8 or name in READ_WHOLE


@needs_minilm
def test_real_tokenizer_shortens_a_megabyte_of_words() -> None:
    tokenizer = HuggingFaceTokenizer.from_file(str(minilm() / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    text = " ".join(random.Random(1).choices(WORDS, k=100_000))
    started = time.process_time()
    (tokens,) = Tokenizer.of(tokenizer, MAX_TOKENS).encode([text])
    assert time.process_time() - started < 0.5
    assert tokens.ids == tokens_of_whole(tokenizer, text)[0]


def unsplit() -> HuggingFaceTokenizer:
    return HuggingFaceTokenizer(WordLevel({"<unk>": 0}, unk_token="<unk>"))


def with_parts(normalizer: normalizers.Normalizer | None, splitter: PreTokenizer | None) -> HuggingFaceTokenizer:
    tokenizer = unsplit()
    if normalizer:
        tokenizer.normalizer = normalizer
    if splitter:
        tokenizer.pre_tokenizer = splitter
    return tokenizer


def with_added(token: str | AddedToken) -> HuggingFaceTokenizer:
    tokenizer = with_parts(None, pre_tokenizers.Whitespace())
    tokenizer.add_tokens([token])
    return tokenizer


@pytest.mark.parametrize(
    "tokenizer",
    [
        unsplit(),
        with_parts(normalizers.Replace("a b", "c"), pre_tokenizers.Whitespace()),
        with_parts(normalizers.Replace(Regex(r"\w+ \w+"), "x"), pre_tokenizers.Whitespace()),
        with_parts(None, split(r"\w+ \w+|.")),
        with_parts(None, pre_tokenizers.UnicodeScripts()),
        with_parts(None, pre_tokenizers.Metaspace(split=False)),
        with_added("hello world"),
        with_added("word"),
        with_added(AddedToken(" ", normalized=False)),
    ],
)
def test_tokenizer_that_may_look_across_boundaries_reads_whole_texts(tokenizer: HuggingFaceTokenizer) -> None:
    assert boundary_of(tokenizer) is None
