"""Stores whose tasks show the model different things: how far the engine is from PEFT on rows of all of them."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import transformers

from making import make_encoder
from mixed_store import Kind, make_mixed_repository, open_with_peft
from model_inputs import INPUTS, MAX_TOKENS, QUESTIONS, draw_response, make_tokenizer, tokens_of_transformers
from scoremux_engine import Engine
from scoremux_engine.bank.residents import Version
from scoremux_export.opening.openable import Opening

BACKBONES = {"bert": "query,value", "llama": "q_proj,v_proj"}
"""One with token types and one without → its sites."""


@dataclass
class Distance:
    """max_abs_difference: of logits from PEFT's; levels: how many differ; without_types: PEFT's own, without types."""

    max_abs_difference: float = 0.0
    levels: int = 0
    without_types: float = 0.0


def make_repository(backbone: str, repository: Path) -> Path:
    """Export a small random model of `BACKBONES` and publish a task for each of INPUTS."""
    source, sites = repository / "source", BACKBONES[backbone]
    if backbone == "bert":
        make_encoder(source, layers=1, width=256, max_tokens=MAX_TOKENS)
    else:
        _make_llama(source)
    kinds = [
        Kind((4, 8, 24)[n % 3], 2 + n % 4, sites, task={"question": QUESTIONS[n % 3], "rubric": "{x}", "input": given})
        for n, given in enumerate(INPUTS)
    ]
    make_mixed_repository(str(source), repository, tuple(kinds), Opening(sites))
    return repository


def measure(repository: Path, count: int, seed: int) -> Distance:
    """Score random rows of all tasks in one batch, and each through PEFT with AutoTokenizer's tokens."""
    engine, source = Engine.open(repository), repository / "source"
    auto, draw, distance = transformers.AutoTokenizer.from_pretrained(source), random.Random(seed), Distance()
    rows = [(draw_response(draw), draw.choice(engine.bank.tasks)) for _ in range(count)] + [("", "t-0")]
    logits = engine.logits([text for text, _ in rows], [task for _, task in rows])
    with engine.bank.checkout() as versions:
        found = {task: versions.find(task) for task in engine.bank.tasks}
    for task, version in found.items():
        assert isinstance(version, Version)
        oracle = open_with_peft(str(source), repository / "adapters" / task, version.outputs)
        for (text, _), row in ((one, row) for one, row in zip(rows, logits, strict=True) if one[1] == task):
            seen = tokens_of_transformers(auto, version.task.render(text))
            # An empty text that has no special tokens either is one padding token.
            seen["input_ids"] = seen["input_ids"] or [engine.backbone.spec.pad_id]
            names = ("input_ids", *(("token_type_ids",) if engine.backbone.spec.token_types else ()))
            inputs = {name: torch.tensor([seen[name]]) for name in names}
            with torch.inference_mode():
                expected = oracle(**inputs).logits[0].numpy()
                plain = oracle(inputs["input_ids"]).logits[0].numpy()
            got = row[: version.outputs]
            distance.max_abs_difference = max(distance.max_abs_difference, float(np.abs(got - expected).max()))
            distance.levels += int(got.argmax() != expected.argmax())
            distance.without_types = max(distance.without_types, float(np.abs(plain - expected).max()))
    return distance


def _make_llama(folder: Path) -> None:
    """Write a small Llama and a tokenizer of its family; the padding token is the one that ends a text."""
    auto = transformers.AutoTokenizer.from_pretrained(make_tokenizer("LlamaTokenizer", folder))
    torch.manual_seed(7)
    config = transformers.LlamaConfig(
        vocab_size=len(auto),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=MAX_TOKENS,
        pad_token_id=auto.eos_token_id,
    )
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
