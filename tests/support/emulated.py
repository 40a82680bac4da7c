"""Precisions of GPUs, emulated on ONNX Runtime's CPU provider: what products read is rounded as a GPU rounds it."""

from pathlib import Path

import numpy as np
import onnx_ir as ir

from scoremux_engine.model.backbone import Backbone, head_inputs
from scoremux_engine.runners.onnxruntime import TF32, OnnxRuntimeRunner
from scoremux_export.plans.reduced_precision import FLOAT, NARROW, as_float32, reduce

EMULATED = (TF32, *NARROW)
_SPLIT = np.float32(2**13 + 1)
"""x · 2¹³ + x splits float32 x: 11 of its 24 bits are the upper part (Veltkamp)."""
_PRODUCTS, _NOISE = ("MatMul", "Gemm"), 0.484


def emulated(backbone: Backbone, precision: str, folder: Path, wrong: int | None = None) -> OnnxRuntimeRunner:
    """Return a runner of a precision; the weight of the product number `wrong`, from the end, has noise beside it.

    Its products then have a cosine of 0.9 with the true ones. Raises IndexError where there is no such product.
    """
    model = ir.load(backbone.onnx)
    if wrong is not None:
        _disturb(model, wrong)
    if precision == TF32:
        _round_to_tf32(model)
    else:
        head = [name for linear in backbone.spec.head for name in head_inputs(linear.name)]
        reduce(model, NARROW[precision], frozenset(head))
        as_float32(model, NARROW[precision])
    path = folder / f"{precision}-{wrong}.onnx"
    ir.save(model, path, external_data=f"{path.name}.data")
    runner = OnnxRuntimeRunner(backbone, threads=1, graph=path)
    runner.precision = precision
    return runner


def _disturb(model: ir.Model, wrong: int) -> None:
    read = [node.inputs[1] for node in reversed(model.graph) if node.op_type in _PRODUCTS]
    weights = [value for value in read if value.is_initializer() and value.const_value.numpy().ndim == 2]
    values = weights[wrong].const_value.numpy()
    drawn = np.random.default_rng(0).normal(0, 1, values.shape)
    disturbed = values + drawn * _NOISE * np.linalg.norm(values) / np.linalg.norm(drawn)
    weights[wrong].const_value = ir.tensor(disturbed.astype(np.float32), name=weights[wrong].name)


def _round_to_tf32(model: ir.Model) -> None:
    graph = model.graph
    split = ir.val("tf32.split", const_value=ir.tensor(_SPLIT, name="tf32.split"))
    graph.register_initializer(split)
    rounded: dict[ir.Value, ir.Value] = {}
    for node in [node for node in graph if node.op_type in _PRODUCTS]:
        for place, value in enumerate(node.inputs[:2]):
            if value not in rounded:
                large = ir.node("Mul", [value, split])
                low = ir.node("Sub", [large.outputs[0], value])
                high = ir.node("Sub", [large.outputs[0], low.outputs[0]])
                for made in (large, low, high):
                    made.outputs[0].dtype = FLOAT
                graph.insert_before(node, [large, low, high])
                rounded[value] = high.outputs[0]
            node.replace_input_with(place, rounded[value])
