"""Arithmetic in float64 whose bits depend on no library and no processor: e**x, sums and products.

e**x is a polynomial of operations that IEEE 754 defines and that nothing fuses; NumPy's own differs in the last bit
between processors. For sums and products, each factor is cut into a few parts of whole numbers, so short that every sum
of their products is a whole number below 2**53. A float64 holds such a sum exactly, so it is the same in whatever order
a library adds, and with whatever instructions. The parts' results are then added in one order.
"""

from dataclasses import dataclass
from fractions import Fraction
from functools import reduce
from math import factorial

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

_PER_LN2 = 1.4426950408889634
_LN2 = (0.6931471806019545, -4.2009150726810846e-11)
"""ln 2 in two parts; the first has so few bits that its products with whole numbers below 2**20 are exact."""
_COEFFICIENTS = [float(Fraction(1, factorial(n))) for n in range(15)]

_PARTS = 3
_MOST_BITS = 22
"""With three parts, 66 bits below the largest number of a row or column; a float64 has 53."""
_LEAST_EXPONENT = -900


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


@dataclass(frozen=True)
class WholeParts:
    """An array as Σ whole · unit, the largest part first.

    Attributes:
        units: Of each part, a power of two a row (or a column).
    """

    wholes: tuple[Array, ...]
    units: tuple[Array, ...]

    @classmethod
    def of(cls, values: Array, axis: int, bits: int) -> "WholeParts":
        """Cut an array along the axis that is summed over; no whole number is beyond 2**bits."""
        rest = np.asarray(values, np.float64)
        _, exponent = np.frexp(np.abs(rest).max(axis=axis, keepdims=True, initial=0.0))
        exponent = np.maximum(exponent, _LEAST_EXPONENT)
        wholes, units = [], []
        for part in range(1, _PARTS + 1):
            unit = np.ldexp(1.0, exponent - part * bits)
            whole = np.rint(rest / unit)
            rest = rest - whole * unit
            wholes.append(whole)
            units.append(unit)
        return cls(tuple(wholes), tuple(units))


def product(left: Array, right: Array) -> Array:
    """Return left @ right, with NumPy's rules of shapes for arrays of two axes and more."""
    terms = left.shape[-1]
    bits = min(_MOST_BITS, (53 - max(terms - 1, 0).bit_length()) // 2)  # of a part, so that the sum is exact
    return product_of_parts(WholeParts.of(left, -1, bits), WholeParts.of(right, -2, bits))


def product_of_parts(left: WholeParts, right: WholeParts) -> Array:
    """Return the product of two arrays that are cut already, each for the same number of terms."""
    pairs = ((i, both - i) for both in reversed(range(_PARTS)) for i in range(both + 1))  # the smallest first
    parts = (np.matmul(left.wholes[i], right.wholes[j]) * left.units[i] * right.units[j] for i, j in pairs)
    return reduce(np.add, parts)


def total(values: Array) -> Array:
    """Return the sum over the last axis, which stays with one place."""
    parts = WholeParts.of(values, -1, _MOST_BITS)
    sums = [whole.sum(axis=-1, keepdims=True) * unit for whole, unit in zip(parts.wholes, parts.units, strict=True)]
    return np.asarray(sums[2] + sums[1] + sums[0])
