"""The most that matrix products of each precision reach on this machine: the best of several shapes and libraries."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from scoremux_engine.runners.streams import available_cores

SHAPES = ((1024, 1024, 1024), (2048, 2048, 2048), (2048, 384, 1536), (2048, 1536, 384))
"""M, K, N: squares, and MiniLM's own feed-forward Linears over a full micro-batch."""
LAYERS, HIDDEN, INNER = 6, 384, 1536
"""MiniLM."""


@dataclass(frozen=True)
class Product:
    """One matrix product, ready to run; `operations`: two for each multiplication and addition."""

    run: Callable[[], object]
    operations: float


def linear_flops(lengths: list[int]) -> float:
    """Return the operations of MiniLM's Linears on real tokens alone: two a weight and token."""
    return float(sum(2 * LAYERS * (4 * HIDDEN * HIDDEN + 2 * HIDDEN * INNER) * n for n in lengths))


def attention_flops(lengths: list[int]) -> float:
    """Return the operations of scores and values of attention, over each row's own tokens: 4·S·H a token and layer."""
    return float(sum(LAYERS * 4 * n * n * HIDDEN for n in lengths))


def flops(lengths: list[int]) -> float:
    """Return the operations of MiniLM's matrix products on real tokens; LoRA, embeddings and heads are left out."""
    return linear_flops(lengths) + attention_flops(lengths)


def products(precision: str) -> dict[str, Product]:
    """Return matrix products of one precision by name, with fixed right-hand sides and all threads."""
    made = {}
    for m, k, n in SHAPES:
        made[f"openvino {m}×{k}×{n}"] = Product(_openvino(precision, m, k, n), 2.0 * m * k * n)
        made[f"torch {m}×{k}×{n}"] = Product(_torch(precision, m, k, n), 2.0 * m * k * n)
    return made


def _openvino(precision: str, m: int, k: int, n: int) -> Callable[[], object]:
    """x @ W, float32 [m, k] in and [m, n] out, computed as the runner computes a Linear."""
    import openvino
    from openvino import opset13

    x = opset13.parameter([m, k], np.float32)
    weight = opset13.constant(np.random.default_rng(0).normal(size=(n, k)).astype(np.float32))
    model = openvino.Model([opset13.matmul(x, weight, False, True)], [x])
    if precision == "int8":
        model = _int8(model)
    options = {
        "INFERENCE_PRECISION_HINT": "f32" if precision == "float32" else "bf16",
        "INFERENCE_NUM_THREADS": available_cores(),
        "NUM_STREAMS": 1,
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": 128 if precision == "int8" else 0,
    }
    request = openvino.compile_model(model, "CPU", options).create_infer_request()
    array = np.random.default_rng(1).normal(size=(m, k)).astype(np.float32)
    request.set_input_tensor(openvino.Tensor(array, True))
    return lambda: (request.infer(), array)  # the array is kept alive: the request only points at it


def _int8(model: Any) -> Any:
    import contextlib
    import io

    os.environ.setdefault("NNCF_CI", "1")  # it reports its use to its authors otherwise
    import nncf

    with contextlib.redirect_stdout(io.StringIO()):
        return nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_SYM)


def _torch(precision: str, m: int, k: int, n: int) -> Callable[[], object]:
    """x @ W in torch; int8 into int32."""
    import torch

    x, weight = torch.randn(m, k), torch.randn(k, n)
    if precision == "int8":
        a, b = (x * 30).to(torch.int8), (weight * 30).to(torch.int8)
        return lambda: torch._int_mm(a, b)
    dtype = torch.float32 if precision == "float32" else torch.bfloat16
    x, weight = x.to(dtype), weight.to(dtype)
    return lambda: x @ weight
