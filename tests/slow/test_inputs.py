"""What the model sees, proved at length against transformers."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from computed import computed_runners
from model_inputs import INPUTS, TOKENIZERS, compare_with_transformers, make_tokenizer
from proofs import Result, Scaled
from saf import minilm, needs_minilm
from scoremux_engine import Engine
from scoremux_engine.selftest import run_selftest
from shown import BACKBONES, make_repository, measure

RESPONSES = 20_000


@needs_minilm
def test_tokens_are_those_of_transformers(tmp_path: Path, scaled: Scaled, result: Result) -> None:
    sources = [minilm(), *(make_tokenizer(name, tmp_path / name) for name in TOKENIZERS)]
    count = scaled(-(-RESPONSES // len(sources)))
    checked = [compare_with_transformers(source, count, random.Random(f"{source.name} {count}")) for source in sources]
    different = [case for one in checked for case in one.different]
    result(
        f"tokens of {RESPONSES:,} random responses, alone, in pairs and in templates, {len(sources)} tokenizers",
        f"{len(different)} differ from AutoTokenizer's; {sum(one.cut for one in checked):,} responses were cut, "
        f"{sum(one.split for one in checked):,} were compared as their task's prefix and the rest",
    )
    assert different == []


@pytest.mark.parametrize("backbone", BACKBONES)
def test_logits_are_pefts_and_bits_stay(backbone: str, tmp_path: Path, scaled: Scaled, result: Result) -> None:
    repository, rows, mixes = make_repository(backbone, tmp_path), scaled(2_000), scaled(1_000)
    distance = measure(repository, rows, seed=1)
    what = f"{backbone}, pairs and templates of {len(INPUTS)} tasks in one batch"
    figure = f"largest difference {distance.max_abs_difference:.1e}, {distance.levels} levels differ"
    result(f"{what}, {rows:,} rows: logits against PEFT", figure)
    assert distance.max_abs_difference <= 1e-4 and distance.levels == 0
    changed = {
        name: run_selftest(Engine.open(repository, runner=runner), mixes=mixes).changed
        for name, runner in computed_runners().items()
    }
    figure = "; ".join(f"{name} {change or 0}" for name, change in changed.items())
    result(f"{what}, {mixes:,} mixes for each runner: rows with other bits", figure)
    assert not any(changed.values())
