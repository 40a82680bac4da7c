"""One float32 arithmetic for every x86 processor with AVX2.

OpenVINO computes all operations of the exported graphs but two with equal bits under AVX2 and AVX-512: its Gelu (erf)
and the sum inside its Softmax differ. Both are written here in operations that do not.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino
from openvino import opset13 as ops

_KEEPS_LAST_AXIS = ("Reshape", "Squeeze", "Unsqueeze")


def make_portable(model: openvino.Model) -> None:
    """Rewrite a float32 model in place, so that its bits do not depend on the width of vector registers.

    Gelu(x) becomes h · erf(h · √2) + h with h = x / 2, a form that OpenVINO does not turn back into its Gelu.
    softmax(x) @ V becomes (e @ V) / (e @ 1) with e = exp(x − max x): a product adds in the same order everywhere.
    """
    for node in model.get_ordered_ops():
        kind = node.get_type_name()
        if kind == "Gelu" and node.get_attributes()["approximation_mode"].lower() == "erf":
            _read_instead(node, _gelu(node.input_value(0)))
        elif kind == "Softmax":
            _replace_softmax(node)
    model.validate_nodes_and_infer_types()


def _gelu(x: Any) -> Any:
    half = ops.multiply(x, _number(0.5))  # nothing else reads x, so what computes x halves what it writes
    return ops.add(ops.multiply(half, ops.erf(ops.multiply(half, _number(2**0.5)))), half)


def _replace_softmax(node: Any) -> None:
    """Divide after the product with V where one reads the weights, else at once. The axis is the last."""
    x = node.input_value(0)
    powers = ops.exp(ops.subtract(x, ops.reduce_max(x, _integers([-1]), keep_dims=True))).output(0)
    for target in list(node.output(0).get_target_inputs()):
        product = _product_that_reads(target)
        if product is None:
            target.replace_source_output(ops.divide(powers, _sums(powers)).output(0))
            continue
        target.replace_source_output(powers)
        readers = list(product.output(0).get_target_inputs())
        shares = ops.divide(product, _sums(product.input_value(0))).output(0)
        for reader in readers:
            reader.replace_source_output(shares)


def _product_that_reads(target: Any) -> Any:
    """Return the product whose left side an input is, maybe after a change of shape that keeps the last axis."""
    node = target.get_node()
    if target.get_index() != 0:
        return None
    if node.get_type_name() == "MatMul":
        return None if node.get_attributes()["transpose_a"] else node
    readers = list(node.output(0).get_target_inputs())
    return _product_that_reads(readers[0]) if node.get_type_name() in _KEEPS_LAST_AXIS and len(readers) == 1 else None


def _sums(powers: Any) -> Any:
    """powers @ 1: [..., S, K] → [..., S, 1]"""
    keys = ops.gather(ops.shape_of(powers), _integers([-1]), _integers(0))
    ones = ops.broadcast(_number(1.0), ops.concat([keys, _integers([1])], 0))
    return ops.matmul(powers, ones, False, False)


def _read_instead(node: Any, other: Any) -> None:
    for target in list(node.output(0).get_target_inputs()):
        target.replace_source_output(other.output(0))


def _number(value: float) -> Any:
    return ops.constant(np.float32(value))


def _integers(values: Any) -> Any:
    return ops.constant(values, np.int64)
