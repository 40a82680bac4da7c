"""What the model sees, proved at length against transformers."""

from __future__ import annotations

import random
from pathlib import Path

from model_inputs import TOKENIZERS, compare_with_transformers, make_tokenizer
from proofs import Result, Scaled
from saf import minilm, needs_minilm

RESPONSES = 20_000


@needs_minilm
def test_tokens_are_those_of_transformers(tmp_path: Path, scaled: Scaled, result: Result) -> None:
    sources = [minilm(), *(make_tokenizer(name, tmp_path / name) for name in TOKENIZERS)]
    count = scaled(-(-RESPONSES // len(sources)))
    checked = [compare_with_transformers(source, count, random.Random(f"{source.name} {count}")) for source in sources]
    different = [case for one in checked for case in one.different]
    result(
        f"tokens of {RESPONSES:,} random responses, alone, in pairs and in templates, {len(sources)} tokenizers",
        f"{len(different)} differ from AutoTokenizer's; {sum(one.cut for one in checked):,} responses were cut",
    )
    assert different == []
