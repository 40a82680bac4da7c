"""How a figure grows: its slope between doublings, and where it bends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Growth:
    """slope: k of y ∝ x^k over all; bend: the x with the best two slopes on either side, `before` and `after`.

    bend, before and after are None where there are too few points to tell.
    """

    slope: float
    bend: float | None = None
    before: float | None = None
    after: float | None = None


def growth(x: Sequence[float], y: Sequence[float]) -> Growth:
    """Return slopes of log y over log x: one line by least squares, and the best two that meet at a measured x.

    x ascending and y, both positive, at least two values.
    """
    across, up = np.log(np.asarray(x, dtype=np.float64)), np.log(np.asarray(y, dtype=np.float64))
    slope = float(np.polyfit(across, up, 1)[0])
    if len(x) < 4:
        return Growth(slope)
    fits = []
    for knot in range(1, len(x) - 1):
        # up = a + b·x + c·max(0, x − knot): two lines that meet.
        hinge = np.maximum(0, across - across[knot])
        columns = np.stack([np.ones_like(across), across, hinge], axis=1)
        solved = np.linalg.lstsq(columns, up, rcond=None)[0]
        fits.append((float(((columns @ solved - up) ** 2).sum()), knot, float(solved[1]), float(solved[1] + solved[2])))
    _, knot, before, after = min(fits)
    return Growth(slope, float(x[knot]), before, after)
