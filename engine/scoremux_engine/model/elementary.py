"""Elementary functions in float64 from operations that IEEE 754 defines: equal bits on every processor.

NumPy's own differ in the last bit between processors. Here each function is a polynomial of additions and
multiplications that nothing fuses; its coefficients are computed in decimal arithmetic when this module is imported.
"""

from __future__ import annotations

from decimal import Decimal, getcontext, localcontext
from math import factorial

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

_DIGITS = 70
_PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459230781640628620899")
_HIGH_BITS = 33
"""Bits of a constant's first part, so that its product with a whole number below 2**20 is exact."""


def _parts(value: Decimal, count: int) -> list[float]:
    """Return numbers whose sum is `value`, all but the last of so few bits that small multiples of them are exact."""
    parts = []
    for _ in range(count - 1):
        exponent = np.frexp(float(value))[1] - _HIGH_BITS
        scaled = (value / Decimal(2) ** int(exponent)).to_integral_value()
        parts.append(float(np.ldexp(float(scaled), exponent)))
        value -= Decimal(parts[-1])
    return [*parts, float(value)]


def _error_function_series() -> Array:
    """Return the Taylor coefficients of erf around 0, 1/8, … 6: float64 [14, 49]."""
    series = []
    for place in range(8 * 6 + 1):
        centre = Decimal(place) / 8
        slope = 2 / _PI.sqrt() * (-centre * centre).exp()
        value, term, n = Decimal(0), centre, 0
        while abs(term) > Decimal(10) ** -40:
            value += term / (2 * n + 1)
            n += 1
            term *= -centre * centre / n
        coefficients, before, polynomial = [value * 2 / _PI.sqrt()], Decimal(0), Decimal(1)
        for order in range(13):
            coefficients.append(slope * polynomial / factorial(order + 1))
            before, polynomial = polynomial, -2 * centre * polynomial - 2 * order * before
        series.append([float(coefficient) for coefficient in coefficients])
    return np.ascontiguousarray(np.array(series).T)


with localcontext(getcontext()) as _context:
    _context.prec = _DIGITS
    _LN2, _HALF_PI = _parts(Decimal(2).ln(), 2), _parts(_PI / 2, 3)
    _PER_LN2, _PER_HALF_PI = float(1 / Decimal(2).ln()), float(2 / _PI)
    _ROOT_HALF, _ROOT_2_PER_PI = float(Decimal("0.5").sqrt()), float((2 / _PI).sqrt())
    _EXP = [float(Decimal(1) / factorial(n)) for n in range(15)]
    _SIN = [float(Decimal((-1) ** n) / factorial(2 * n + 1)) for n in range(10)]
    _COS = [float(Decimal((-1) ** n) / factorial(2 * n)) for n in range(10)]
    _ATANH = [float(Decimal(2) / (2 * n + 1)) for n in range(13)]
    _ERF = _error_function_series()


def _polynomial(x: Array, coefficients: list[float]) -> Array:
    value = np.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        value = value * x + coefficient
    return value


def exp(x: Array) -> Array:
    """e**x = 2**k · e**r with |r| ≤ ln 2 / 2."""
    x = np.clip(x, -800.0, 800.0)
    k = np.rint(x * _PER_LN2)
    r = (x - k * _LN2[0]) - k * _LN2[1]
    with np.errstate(over="ignore", under="ignore"):
        return np.ldexp(_polynomial(r, _EXP), k.astype(np.int64))


def log(x: Array) -> Array:
    """ln x for x > 0: x = 2**k · m, ln m = 2 · artanh((m − 1) / (m + 1))."""
    m, k = np.frexp(x)
    below = m < _ROOT_HALF
    m, k = np.where(below, 2 * m, m), np.where(below, k - 1, k)
    s: Array = (m - 1) / (m + 1)
    return np.asarray(k * _LN2[0] + (s * _polynomial(s * s, _ATANH) + k * _LN2[1]))


def erf(x: Array) -> Array:
    """The error function, from its series around the nearest eighth; ±1 beyond 6."""
    size = np.minimum(np.abs(x), 6.0)
    place = np.rint(size * 8).astype(np.int64)
    h = size - place * 0.125
    value = np.take(_ERF[-1], place)
    for coefficients in _ERF[-2::-1]:
        value = value * h + np.take(coefficients, place)
    return np.copysign(value, x)


def gelu(x: Array) -> Array:
    """x · Φ(x)."""
    return 0.5 * x * (1.0 + erf(x * _ROOT_HALF))


def gelu_tanh(x: Array) -> Array:
    """The approximation of Gelu by tanh, as models that were trained with it compute it."""
    return 0.5 * x * (1.0 + tanh(_ROOT_2_PER_PI * (x + 0.044715 * (x * x * x))))


def tanh(x: Array) -> Array:
    """(1 − t) / (1 + t) with t = e**(−2|x|)."""
    t = exp(-2.0 * np.abs(x))
    return np.copysign((1.0 - t) / (1.0 + t), x)


def sigmoid(x: Array) -> Array:
    """1 / (1 + e**−x)."""
    return 1.0 / (1.0 + exp(-x))


def sin(x: Array) -> Array:
    """Sine of angles below 2**20."""
    return _wave(x, 0)


def cos(x: Array) -> Array:
    """Cosine of angles below 2**20."""
    return _wave(x, 1)


def _wave(x: Array, quarter: int) -> Array:
    n = np.rint(x * _PER_HALF_PI)
    r = ((x - n * _HALF_PI[0]) - n * _HALF_PI[1]) - n * _HALF_PI[2]
    square, turn = r * r, (n.astype(np.int64) + quarter) % 4
    value = np.where(turn % 2, _polynomial(square, _COS), r * _polynomial(square, _SIN))
    return np.where(turn >= 2, -value, value)
