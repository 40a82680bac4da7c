"""Close rows: their two likeliest levels are so near each other that another arithmetic may give the other one."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from scoremux_files.rows.columns import Codes

FLOAT32_LIMIT = 2e-4
"""How far two arithmetics in float32 may take a difference of two logits apart: twice the tolerance of exports."""

_FLOAT32 = re.compile(r"(triton-)?(onnxruntime-)?(x86|avx512|avx2|x86_64|aarch64)-f32(-[0-9a-f]{6})?")


@dataclass(frozen=True)
class Margins:
    """How near rows are to another level.

    Attributes:
        arithmetic: The arithmetic that computed each row, [B].
        margin: ln p₁ − ln p₂ of its two likeliest levels, float32 [B]; NaN without a score or probabilities.
    """

    arithmetic: Codes
    margin: npt.NDArray[np.float32]


@dataclass(frozen=True)
class CloseRows:
    """How many rows of one arithmetic are close.

    Attributes:
        rows: How many rows with probabilities it computed.
        close: Those whose margin is not above `limit`; None where no limit is known.
        limit: How far logits' differences may be from those of other arithmetics.
    """

    arithmetic: str
    rows: int
    close: int | None
    limit: float | None

    def to_json(self) -> dict[str, Any]:
        """Return the figures, and a sentence about them."""
        return {**vars(self), "words": self._words()}

    def _words(self) -> str:
        if self.close is None:
            return (
                f"How many of the {self.rows:,} rows computed in {self.arithmetic} are close is not known: a limit is "
                "stated for float32 alone."
            )
        return (
            f"{self.close:,} of {self.rows:,} rows computed in {self.arithmetic} ({self.close / self.rows:.2%}) are "
            f"close: the logits of their two likeliest levels are within {self.limit:.1e} (what two float32 "
            "arithmetics may differ by), so that another arithmetic may give another level."
        )


def computes_float32(arithmetic: str) -> bool:
    """Whether an arithmetic of this name rounds to float32 throughout. GPUs may multiply in fewer bits (TF32)."""
    return bool(_FLOAT32.fullmatch(arithmetic))


def count_close(margins: Margins) -> Iterator[CloseRows]:
    """Yield the close rows of each arithmetic."""
    names = margins.arithmetic
    of_row = margins.margin
    for code, name in enumerate(names.values):
        of_arithmetic = of_row[(names.code == code) & ~np.isnan(of_row)]
        limit = FLOAT32_LIMIT if computes_float32(name) else None
        if name and len(of_arithmetic):
            close = None if limit is None else int((of_arithmetic <= limit).sum())
            yield CloseRows(name, len(of_arithmetic), close, limit)
