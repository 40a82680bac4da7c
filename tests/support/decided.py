"""Decisions as `scoremux calibrate` writes them, for tests of what applies them."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np

from scoremux_assess.conditions.rules import Conditions
from scoremux_assess.decision import OWN, Decision, Temperature, Threshold, Unusual
from scoremux_assess.tables import Table
from scoremux_client.contract import Reason

CONDITIONS: dict[str, Any] = {
    "blank": {"action": "code"},
    "refusal": {"action": "code", "extra_words": 2, "phrases": {"en": ["no idea", "I don't know"]}},
    "insufficient": {"action": "flag", "words": 2},
}


def make_decision(seed: int = 0, width: int | None = None, least: float = 0.5) -> Decision:
    """Return a decision with a drawn temperature; with `width`, half of the rows are unusual."""
    draw = random.Random(seed)
    unusual = None
    if width:
        random_numbers = np.random.default_rng(seed)
        unusual = Unusual(
            draw.uniform(0.35, 0.7), 0.5, 10, random_numbers.normal(size=(3, width)), np.full(width, 0.4 / width)
        )
    return Decision(
        policy="p" * 64,
        conditions=Conditions.of(Table(CONDITIONS, "conditions")),
        temperature=Temperature(draw.uniform(0.3, 4.0), OWN, 100),
        threshold=Threshold(least, Reason.LOW_CONFIDENCE.value, OWN, 100, 0.25),
        unusual=unusual,
        truncated=True,
    )


def write_decision(folder: Path, decision: Decision) -> Path:
    """Put a decision beside an adapter; return the adapter's folder."""
    (folder / "decision.json").write_bytes(decision.to_json())
    return folder
