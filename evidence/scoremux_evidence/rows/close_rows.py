"""Close rows: their two likeliest levels are so near each other that another arithmetic may give the other one."""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from scoremux_evidence.rows.table import Rows

FLOAT32_LIMIT = 2e-4
"""How far two arithmetics in float32 may take a difference of two logits apart: twice the tolerance of exports."""

_FLOAT32 = re.compile(r"(triton-)?(onnxruntime-)?(x86|avx512|avx2|x86_64|aarch64)-f32(-[0-9a-f]{6})?")


def computes_float32(arithmetic: str) -> bool:
    """Whether an arithmetic of this name rounds to float32 throughout. GPUs may multiply in fewer bits (TF32)."""
    return bool(_FLOAT32.fullmatch(arithmetic))


def count_close(scored: Rows) -> Iterator[dict[str, Any]]:
    """Yield for each arithmetic how many rows with probabilities it computed, how many are close, and a sentence.

    close: Rows whose margin is at most `limit`, how far other arithmetics may take differences of logits; both are None
    where no limit is known.
    """
    names = scored.arithmetic
    of_row = scored.margin
    for code, name in enumerate(names.values):
        of_arithmetic = of_row[(names.code == code) & ~np.isnan(of_row)]
        rows = len(of_arithmetic)
        if not name or not rows:
            continue
        found: dict[str, Any] = {"arithmetic": name, "rows": rows, "close": None, "limit": None}
        words = (
            f"How many of the {rows:,} rows computed in {name} are close is not known: a limit is stated for float32 "
            "alone."
        )
        if computes_float32(name):
            close = int((of_arithmetic <= FLOAT32_LIMIT).sum())
            found |= {"close": close, "limit": FLOAT32_LIMIT}
            words = (
                f"{close:,} of {rows:,} rows computed in {name} ({close / rows:.2%}) are close: the logits of their "
                f"two likeliest levels are within {FLOAT32_LIMIT:.1e} (what two float32 arithmetics may differ by), so "
                "that another arithmetic may give another level."
            )
        yield found | {"words": words}
