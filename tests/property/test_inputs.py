"""Tasks that show the model different things, in one batch: PEFT's logits, and no bit changed, on any runner."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from computed import computed_runners
from making import make_encoder
from mixed_store import Kind, make_mixed_repository, open_with_peft
from model_inputs import INPUTS, MAX_TOKENS, QUESTIONS, draw_response, tokens_of_transformers
from scoremux_engine import Engine
from scoremux_engine.bank.version import Version
from scoremux_engine.selftest import run_selftest
from scoremux_export.opening import Opening

KINDS = tuple(
    Kind((4, 8, 24)[n % 3], 2 + n % 4, task={"question": QUESTIONS[n % 3], "rubric": "2 = {response}", "input": given})
    for n, given in enumerate(INPUTS)
)
TASKS = [f"t-{n}" for n in range(len(KINDS))]
ROWS = 150


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One task for each of INPUTS, on a backbone with token types."""
    repository = tmp_path_factory.mktemp("inputs")
    source = make_encoder(repository / "source", layers=1, width=256, max_tokens=MAX_TOKENS)
    make_mixed_repository(str(source), repository, KINDS, Opening("query,value"))
    return repository


def test_the_logits_of_pairs_and_templates_in_one_batch_are_those_of_peft(repository: Path) -> None:
    engine, source = Engine.open(repository), repository / "source"
    assert engine.backbone.spec.token_types
    auto, draw = transformers.AutoTokenizer.from_pretrained(source), random.Random(6)
    rows = [(draw_response(draw), draw.choice(TASKS)) for _ in range(ROWS)]
    logits = engine.logits([text for text, _ in rows], [task for _, task in rows])
    with engine.bank.checkout() as versions:
        found = {task: versions.find(task) for task in TASKS}
    without_types = []
    for task, kind in zip(TASKS, KINDS, strict=True):
        oracle = open_with_peft(str(source), repository / "adapters" / task, kind.levels)
        version = found[task]
        assert isinstance(version, Version)
        for (text, named), row in zip(rows, logits[:, : kind.levels], strict=True):
            if named == task:
                seen = tokens_of_transformers(auto, version.task.render(text))
                ids, types = torch.tensor([seen["input_ids"]]), torch.tensor([seen["token_type_ids"]])
                with torch.inference_mode():
                    expected = oracle(input_ids=ids, token_type_ids=types).logits[0].numpy()
                    without_types.append(np.abs(oracle(input_ids=ids).logits[0].numpy() - expected).max())
                assert np.abs(row - expected).max() <= 1e-4
                assert row.argmax() == expected.argmax()
    assert max(without_types) > 1e-2


@pytest.mark.parametrize("name", computed_runners())
def test_rows_of_different_inputs_in_one_batch_keep_their_bits(repository: Path, name: str) -> None:
    test = run_selftest(Engine.open(repository, runner=computed_runners()[name]), mixes=40, longest=96)
    assert test.changed is None and len(test.buckets) > 8
