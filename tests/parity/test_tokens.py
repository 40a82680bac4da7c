"""The tokens that the backbone sees are those of AutoTokenizer: in pairs, in templates, and where responses are cut."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import transformers

from model_inputs import TOKENIZERS, compare_with_transformers, make_tokenizer
from pages import blocks
from saf import minilm, needs_minilm

CASES = 60


@pytest.mark.parametrize("name", TOKENIZERS)
def test_tokens_of_random_responses_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    checked = compare_with_transformers(make_tokenizer(name, tmp_path / name), CASES, random.Random(name))
    assert checked.different == []
    assert CASES // 8 < checked.cut < CASES


@needs_minilm
def test_tokens_of_a_real_tokenizer_are_those_of_transformers() -> None:
    checked = compare_with_transformers(minilm(), 2 * CASES, random.Random(5))
    assert checked.different == []
    assert checked.cut > CASES // 8


@needs_minilm
def test_training_code_on_the_page_gets_these_tokens() -> None:
    (block,) = (block for block in blocks("export/README.md") if block.language == "python")
    names: dict[str, Any] = {}
    exec(compile(block.text.replace("MODEL", str(minilm())), block.where, "exec"), names)
    auto = transformers.AutoTokenizer.from_pretrained(minilm())
    assert names["row"].ids == auto(["Why does ice float?\nAnswer: "])["input_ids"][0]
