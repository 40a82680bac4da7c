"""The tokens that the backbone sees are those of AutoTokenizer: in pairs, in templates, and where responses are cut."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import transformers
from tokenizers import Tokenizer as HuggingFaceTokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from model_inputs import TOKENIZERS, compare_with_transformers, make_tokenizer
from pages import blocks
from saf import minilm, needs_minilm
from scoremux_engine.model.inputs import Rendered
from scoremux_engine.model.tokens import Tokenizer

CASES = 60


@pytest.mark.parametrize("cases", [CASES, pytest.param(30 * CASES, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("name", TOKENIZERS)
def test_tokens_of_random_responses_are_those_of_transformers(name: str, cases: int, tmp_path: Path) -> None:
    checked = compare_with_transformers(make_tokenizer(name, tmp_path / name), cases, random.Random(name))
    assert checked.different == []
    assert cases // 8 < checked.cut < cases


@needs_minilm
def test_tokens_of_a_real_tokenizer_are_those_of_transformers() -> None:
    checked = compare_with_transformers(minilm(), 2 * CASES, random.Random(5))
    assert checked.different == []
    assert checked.cut > CASES // 8


def test_a_pair_has_its_types_where_a_tokenizer_has_no_post_processor() -> None:
    words = WordLevel({"[UNK]": 0, "why": 1, "heat": 2, "rises": 3}, unk_token="[UNK]")
    bare = HuggingFaceTokenizer(words)
    bare.pre_tokenizer = Whitespace()
    (tokens,) = Tokenizer.of(bare, 8).encode([Rendered(("why heat", "heat rises"), 1, 10)])
    assert (tokens.ids, tokens.types) == ([1, 2, 2, 3], [0, 0, 1, 1])


@needs_minilm
def test_training_code_on_the_page_gets_these_tokens() -> None:
    (block,) = (block for block in blocks("export/README.md") if block.language == "python")
    names: dict[str, Any] = {}
    exec(compile(block.text.replace("MODEL", str(minilm())), block.where, "exec"), names)
    auto = transformers.AutoTokenizer.from_pretrained(minilm())
    assert names["row"].ids == auto(["Why does ice float?\nAnswer: "])["input_ids"][0]
