"""e**x in float64 from operations that IEEE 754 defines: equal bits on every processor.

NumPy's own differs in the last bit between processors. Here it is a polynomial of additions and multiplications that
nothing fuses.
"""

from __future__ import annotations

from fractions import Fraction
from math import factorial

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

_PER_LN2 = 1.4426950408889634
_LN2 = (0.6931471806019545, -4.2009150726810846e-11)
"""ln 2 in two parts; the first has so few bits that its products with whole numbers below 2**20 are exact."""
_COEFFICIENTS = [float(Fraction(1, factorial(n))) for n in range(15)]


def exp(x: Array) -> Array:
    """e**x = 2**k · e**r with |r| ≤ ln 2 / 2."""
    x = np.clip(x, -800.0, 800.0)
    k = np.rint(x * _PER_LN2)
    r = (x - k * _LN2[0]) - k * _LN2[1]
    value = np.full_like(r, _COEFFICIENTS[-1])
    for coefficient in _COEFFICIENTS[-2::-1]:
        value = value * r + coefficient
    with np.errstate(over="ignore", under="ignore"):
        return np.asarray(np.ldexp(value, k.astype(np.int64)))
