"""Stores as varied as users' are, at length: no bit changes; tokens are those of transformers, logits those of PEFT."""

from __future__ import annotations

import os
import random
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from computed import computed_runners
from mixed_store import KINDS, make_mixed_repository, open_with_peft
from model_inputs import INPUTS, TOKENIZERS, compare_with_transformers, make_tokenizer
from proofs import Result, Scaled
from saf import minilm, needs_data, needs_minilm, read_rows
from scoremux_engine import Engine
from scoremux_engine.runners.precisions import PRECISIONS
from scoremux_engine.selftest import run_selftest
from scoremux_export.opening.openable import Opening
from serving import SCOREMUX
from shown import BACKBONES, make_repository, measure

pytestmark = needs_minilm
STEPS = ("", "AVX512_CORE_VNNI", "AVX512_CORE", "AVX2")
LONGEST_TOKENS = 32
"""Longer rows meet in smaller micro-batches, and take most of the time."""

# With the Linears of 1,536 columns open too, every row would gather 100 MB of tables.
ATTENTION = tuple(replace(kind, sites=kind.sites.removesuffix(",dense")) for kind in KINDS)
OPENING = Opening("query,key,value", dora=True, bias=True)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    repository = tmp_path_factory.mktemp("mixed")
    make_mixed_repository(str(minilm()), repository, ATTENTION, OPENING)
    return repository


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("step", STEPS)
def test_no_mix_changes_a_bit_in_openvino(
    repository: Path, tmp_path: Path, step: str, precision: str, scaled: Scaled, result: Result
) -> None:
    """At every instruction set; a precision that it does not compute is refused in a sentence."""
    (tmp_path / "profile.toml").write_text(f'runner = "openvino"\nprecision = "{precision}"\n')
    status, said = selftest(repository, tmp_path / "profile.toml", step, scaled(2000))
    where = f", oneDNN limited to {step}" if step else ""
    refused = f"this processor does not compute in {precision}" in said
    result(
        f"rows of a mixed store with other bits, {scaled(2000):,} mixes, openvino {precision}{where}",
        "refused at the start" if refused else "0" if status == 0 else said,
    )
    assert status == 0 or (refused and precision != "float32")


def test_no_mix_changes_a_bit_in_onnxruntime(repository: Path, scaled: Scaled, result: Result) -> None:
    """It has no switch for instruction sets."""
    status, said = selftest(repository, "cpu-reference", "", scaled(2000))
    result(
        f"rows of a mixed store with other bits, {scaled(2000):,} mixes, onnxruntime float32",
        "0" if status == 0 else said,
    )
    assert status == 0


def selftest(repository: Path, profile: Path | str, step: str, mixes: int) -> tuple[int, str]:
    """Return the exit status of `scoremux selftest`, and what it said on standard error."""
    words = ["--profile", str(profile), "--mixes", str(mixes), "--longest", str(LONGEST_TOKENS)]
    environment = {name: value for name, value in os.environ.items() if name != "ONEDNN_MAX_CPU_ISA"}
    if step:
        environment["ONEDNN_MAX_CPU_ISA"] = step
    command = [SCOREMUX, "selftest", str(repository), *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    print(done.stdout)
    return done.returncode, done.stderr.strip()


@needs_data
def test_logits_are_pefts(repository: Path, scaled: Scaled, result: Result) -> None:
    engine = Engine.open(repository)
    texts = [row.text for row in read_rows()][:: max(1, 680 // scaled(40))]
    tokens = [row.ids for row in engine.backbone.tokenizer.encode(texts)]
    tasks = [f"t-{n}" for n in range(len(ATTENTION))]
    pairs = [(text, task) for text in texts for task in tasks]
    logits = dict(zip(pairs, engine.logits([t for t, _ in pairs], [t for _, t in pairs]), strict=True))
    worst, moved = 0.0, 0
    for task, kind in zip(tasks, ATTENTION, strict=True):
        oracle = open_with_peft(str(minilm()), repository / "adapters" / task, kind.levels)
        for text, ids in zip(texts, tokens, strict=True):
            with torch.inference_mode():
                expected = oracle(input_ids=torch.tensor([ids])).logits[0].numpy()
            got = logits[text, task][: kind.levels]
            worst = max(worst, float(np.abs(got - expected).max()))
            moved += int(got.argmax() != expected.argmax())
    result(f"a mixed store against PEFT, {len(pairs):,} rows", f"max |Δlogit| {worst:.1e}, {moved} levels differ")
    assert worst <= 1e-4
    assert moved == 0


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
