"""Which precisions OpenVINO computes on this processor; each is tried, since CPU flags do not say."""

import os
import timeit
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino
from openvino import opset13 as ops

from scoremux_engine.errors import RunnerError
from scoremux_engine.runners.int8 import int8_constant, rounded

# oneDNN keeps kernels for all streams of a process. Where two streams need a new one at the same moment, one of them
# can get a kernel that computes something else, for as long as it keeps it: seen in OpenVINO 2026.4 in float32, for
# products followed by an activation. Without that cache each stream makes its own. oneDNN reads this once, when it
# makes its first kernel.
os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] = "0"

Values = npt.NDArray[np.float32]

FLOAT32, BFLOAT16, INT8 = "float32", "bfloat16", "int8"
PRECISIONS = (FLOAT32, BFLOAT16, INT8)

GROUP_COLUMNS = 128
"""Activations are quantised per token in groups of this many columns: a scale of its own keeps a row's bits its own."""

# A feed-forward block: where most of an encoder's time goes.
_WIDTH, _TOKENS, _TRIES = 384, 256, 3
_FEWER_TOKENS = (8, 64)
_CUT_AT = 4.0  # standard deviations
_TOLERANCE = 0.1
_EMULATED = 8.0
"""A precision that is this many times slower than float32 is emulated: the processor has no kernels for it."""


def options(precision: str, streams: int = 1, threads: int = 1) -> dict[str, Any]:
    """Return OpenVINO's options for a precision; `int8` computes its other operations in float32."""
    return {
        "INFERENCE_PRECISION_HINT": "bf16" if precision == BFLOAT16 else "f32",
        "INFERENCE_NUM_THREADS": streams * threads,
        "NUM_STREAMS": streams,
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": GROUP_COLUMNS if precision == INT8 else 0,
    }


@cache
def is_computed(precision: str) -> bool:
    """Whether this processor has kernels for a precision; a small block of products is computed in it.

    OpenVINO may refuse one, emulate it, return nothing without an error, or (int8 without VNNI) compute few tokens in
    another way than many: the outputs are compared with float32, and with those for fewer tokens.
    """
    if precision == FLOAT32:
        return True
    # Where it is not listed it would be emulated, and that takes long to find out.
    if precision == BFLOAT16 and "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        return False
    (expected, *_), float32_s = _run(FLOAT32)
    try:
        (result, *fewer), seconds = _run(precision)
    except RuntimeError:
        return False
    return bool(
        result.shape == expected.shape
        and np.abs(result - expected).max() <= _TOLERANCE * np.abs(expected).max()
        and all(few.tobytes() == result[:, : few.shape[1]].tobytes() for few in fewer)
        and seconds <= _EMULATED * float32_s
    )


def check(precision: str, is_computed: Callable[[str], bool] = is_computed) -> str:
    """Return the precision. Raises RunnerError where it is not offered, or this processor does not compute it."""
    if precision not in PRECISIONS:
        raise RunnerError(f"precision is {precision!r}; OpenVINO runs {', '.join(PRECISIONS)}")
    if not is_computed(precision):
        others = ", ".join(filter(is_computed, PRECISIONS))
        raise RunnerError(f"this processor does not compute in {precision}; it computes in {others}")
    return precision


@cache
def adds_int8_exactly() -> bool:
    """Whether a product in int8 with constant scales is what its numbers give.

    Without VNNI, processors add two products of eight bits in sixteen, and cut the sum to sixteen bits.
    """
    tokens = ops.parameter([1, -1, _WIDTH], np.float32)
    weight = int8_constant(np.ones((_WIDTH, _WIDTH), np.float32))
    product = ops.matmul(rounded(tokens, 1.0), weight, False, True)
    model = openvino.Model([product], [tokens], "ones")
    compiled = openvino.Core().compile_model(model, "CPU", options(INT8))
    values = np.ones((1, _TOKENS, _WIDTH), np.float32)
    return bool(np.allclose(compiled([values])[0], _WIDTH, rtol=1e-3))


@cache
def _run(precision: str) -> tuple[list[Values], float]:
    """Return what the block gives for all tokens and for the first few, and in how many seconds."""
    draw = np.random.default_rng(0)
    values = draw.normal(0, 1, (1, _TOKENS, _WIDTH))
    values = values.astype(np.float32)
    block = openvino.Core().compile_model(_block(precision), "CPU", options(precision))
    parts = [values[:, :tokens] for tokens in (_TOKENS, *_FEWER_TOKENS)]
    results = [np.array(block([part])[0]) for part in parts]
    # Three tries: on a busy machine, a single one may take many times as long as it should.
    seconds = timeit.repeat(lambda: block([values]), number=1, repeat=_TRIES)
    return results, min(seconds)


def _block(precision: str) -> Any:
    """Return gelu(x @ W) @ V as a model, x float32 [1, S, width]; for `int8`, as `quantise` has such a block."""
    tokens = ops.parameter([1, -1, _WIDTH], np.float32)
    draw = np.random.default_rng(1)
    product = rounded(tokens, _CUT_AT) if precision == INT8 and adds_int8_exactly() else tokens
    for columns, rows in ((_WIDTH, 4 * _WIDTH), (4 * _WIDTH, _WIDTH)):
        weight = (draw.random((rows, columns), np.float32) - np.float32(0.5)) * np.float32((12 / columns) ** 0.5)
        constant = int8_constant(weight) if precision == INT8 else ops.constant(weight)
        product = ops.matmul(product, constant, False, True)
        if rows > columns:
            product = ops.gelu(product, "erf")
    return openvino.Model([product], [tokens], "block")
