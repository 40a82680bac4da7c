"""Sums, products and e**x that have equal bits on every processor."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import numpy as np

from scoremux_engine.model import exact_arithmetic
from scoremux_engine.model.exact_arithmetic import product, total

BITS = """
import hashlib, numpy as np
from scoremux_decide.apply import calibrated, distance
from scoremux_decide.decision import Unusual
from scoremux_engine.model import exact_arithmetic
from scoremux_engine.model.exact_arithmetic import product, total
from scoremux_engine.scoring.outcomes import decide
draw = np.random.default_rng(5)
x = draw.standard_normal(20000) * 4
a, b = draw.standard_normal((40, 384)), draw.standard_normal((384, 70))
values = [exact_arithmetic.exp(x), product(a, b), total(a), decide(draw.standard_normal((500, 5)).astype("f4"))[1]]
values += [np.array([calibrated(row, t) for row in values[-1].tolist() for t in (0.2, 0.7, 1.9, 4.0)])]
unusual = Unusual(1.0, 0.9, 9, draw.standard_normal((5, 384)), draw.random(384))
values += [np.array([distance(unusual, vector) for vector in draw.standard_normal((200, 384)).astype("f4")])]
print(*(hashlib.sha256(value.tobytes()).hexdigest() for value in values))
"""
WIDE = "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX512_SPR"
OTHER_PROCESSORS: tuple[dict[str, str], ...] = (
    {"OPENBLAS_CORETYPE": "Haswell", "NPY_DISABLE_CPU_FEATURES": WIDE},
    {"OPENBLAS_CORETYPE": "SkylakeX"},
    {"OPENBLAS_CORETYPE": "Zen"},
    {"OPENBLAS_CORETYPE": "Prescott", "NPY_DISABLE_CPU_FEATURES": f"SSE41 SSE42 AVX F16C FMA3 AVX2 {WIDE}"},
    {"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX,-AVX2,-FMA,-FMA4,-AVX512F"},
)


def test_numbers_beside_the_graph_have_equal_bits_whatever_instructions_the_libraries_use() -> None:
    digests = [
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", BITS],
            env=os.environ | setting,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.split()
        for setting in ({}, *OTHER_PROCESSORS)
    ]
    assert len(digests[0]) == 6
    assert all(other == digests[0] for other in digests)


def test_powers_of_e_are_right_to_the_last_bits() -> None:
    x = np.random.default_rng(1).standard_normal(50_000) * 100
    right = np.exp(x)
    assert np.max(np.abs(exact_arithmetic.exp(x) - right) / np.maximum(right, 1.0)) < 1e-15
    assert exact_arithmetic.exp(np.array([-np.inf, -1e9, 0.0])).tolist() == [0.0, 0.0, 1.0]


def test_products_and_sums_are_those_of_exact_arithmetic() -> None:
    draw = np.random.default_rng(3)
    left = draw.standard_normal((3, 9, 300)) * 10.0 ** draw.integers(-6, 6, (3, 9, 1))
    right = draw.standard_normal((3, 300, 11)).astype(np.float32).astype(np.float64)
    exact = left.astype(np.longdouble) @ right.astype(np.longdouble)
    size = np.abs(left) @ np.abs(right)
    assert np.max(np.abs(product(left, right) - exact) / size) < 4e-16
    assert (
        np.max(
            np.abs(total(left) - left.astype(np.longdouble).sum(-1, keepdims=True)) / np.abs(left).sum(-1)[..., None]
        )
        < 3e-16
    )
    assert not product(np.zeros((2, 4)), np.ones((4, 3))).any()


def test_zeros_appended_to_a_sum_change_no_bit() -> None:
    draw = np.random.default_rng(4)
    left, right = draw.standard_normal((5, 17)), draw.standard_normal((17, 6))
    wide = product(np.pad(left, ((0, 0), (0, 40))), np.pad(right, ((0, 40), (0, 0))))
    assert hashlib.sha256(wide.tobytes()).digest() == hashlib.sha256(product(left, right).tobytes()).digest()
