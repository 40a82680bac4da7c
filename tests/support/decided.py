"""Decisions as `scoremux calibrate` writes them, for tests of what applies them."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scoremux_client.contract import Reason
from scoremux_decide.apply import distance
from scoremux_decide.conditions.condition_rules import Conditions
from scoremux_decide.decision import OWN, Decision, LevelRange, Temperature, Threshold, Unusual
from scoremux_decide.records import parse_record

CONDITIONS: dict[str, Any] = {
    "blank": {"action": "code"},
    "refusal": {"action": "code", "extra_words": 2, "phrases": {"en": ["no idea", "I don't know"]}},
    "profanity": {"action": "flag", "lists": ["en"]},
    "addressed": {"action": "flag", "lists": ["en"]},
    "help": {"action": "flag", "lists": ["en"]},
    "insufficient": {"action": "flag", "words": 2},
}


def make_decision(
    seed: int = 0, width: int | None = None, vectors: npt.NDArray[np.float32] | None = None, least: float = 0.5
) -> Decision:
    """Return a decision with a drawn temperature.

    Args:
        seed: Of the draw.
        width: Of the vectors, where there is to be a rule `unusual`.
        vectors: Those of rows, half of which are to be unusual.
        least: The threshold.
    """
    draw, unusual = random.Random(seed), None
    if vectors is not None:
        width = vectors.shape[1]
    if width:
        centre = np.zeros((1, width)) if vectors is None else vectors.mean(axis=0, dtype=np.float64)[None]
        unusual = Unusual(1.0, 0.5, 10, centre, np.full(width, 1 / width))
        if vectors is not None:
            unusual = replace(unusual, limit=float(np.median([distance(unusual, vector) for vector in vectors])))
    return Decision(
        policy="p" * 64,
        conditions=parse_record(Conditions, CONDITIONS),
        temperature=Temperature(draw.uniform(0.3, 4.0), OWN, 100),
        threshold=Threshold(Reason.LOW_CONFIDENCE.value, OWN, 100, 0.25, least),
        level_range=LevelRange(draw.uniform(0.3, 0.95), 0.9, OWN, 100, 2.0),
        unusual=unusual,
        truncated=True,
    )


def write_decision(folder: Path, decision: Decision) -> Path:
    """Put a decision beside an adapter; return the adapter's folder."""
    (folder / "decision.json").write_bytes(decision.to_json())
    return folder
