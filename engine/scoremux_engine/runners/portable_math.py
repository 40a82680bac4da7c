"""One float32 arithmetic for every x86 processor with AVX2.

OpenVINO computes all operations but two of the exported graphs with equal bits under AVX2 and AVX-512: its Gelu (erf)
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

    Gelu(x) becomes h + h · erf(x / √2) with h = x / 2, a form that OpenVINO does not turn back into its Gelu.
    softmax(x) @ V becomes (e @ V) / (e @ 1) with e = exp(x − max x): a product adds in the same order everywhere.
    """
    for node in model.get_ordered_ops():
        kind = node.get_type_name()
        if kind == "Gelu" and node.get_attributes().get("approximation_mode", "ERF") == "ERF":
            _replace(node, _gelu(node.input_value(0)))
        elif kind == "Softmax":
            _replace_softmax(node)
    model.validate_nodes_and_infer_types()


def _gelu(x: Any) -> Any:
    half = ops.multiply(x, _number(0.5))  # the only reader of x, so the product before it halves what it writes
    return ops.add(ops.multiply(half, ops.erf(ops.multiply(half, _number(2**0.5)))), half)


def _replace_softmax(node: Any) -> None:
    """Divide after the product with V where one reads the weights, else right away."""
    x = node.input_value(0)
    rank = x.get_partial_shape().rank.get_length()
    axis = node.get_attributes()["axis"] % rank
    if axis != rank - 1:
        return
    powers = ops.exp(ops.subtract(x, ops.reduce_max(x, _integers([-1]), keep_dims=True)))
    powers_names = node.output(0).get_names()
    readers = [target for target in node.output(0).get_target_inputs()]
    for target in readers:
        product = _product_that_reads(target)
        if product is None:
            target.replace_source_output(ops.divide(powers, _sums(powers.output(0))).output(0))
            continue
        target.replace_source_output(powers.output(0))
        weights = product.input_value(0)
        old = product.output(0)
        users = old.get_target_inputs()
        whole = ops.divide(product, _sums(weights))
        whole.output(0).set_names(old.get_names())
        for user in users:
            user.replace_source_output(whole.output(0))
    del powers_names


def _sums(powers: Any) -> Any:
    """powers @ 1: [..., S, K] → [..., S, 1]"""
    shape = ops.shape_of(powers, output_type="i64")
    keys = ops.gather(shape, _integers([-1]), _integers(0))
    ones = ops.broadcast(_number(1.0), ops.concat([keys, _integers([1])], 0))
    return ops.matmul(powers, ones, False, False)


def _product_that_reads(target: Any) -> Any:
    """Return the product whose left side an input is, maybe after a change of shape that keeps the last axis."""
    node = target.get_node()
    if node.get_type_name() == "MatMul" and target.get_index() == 0:
        attributes = node.get_attributes()
        return None if attributes["transpose_a"] else node
    if node.get_type_name() in _KEEPS_LAST_AXIS and target.get_index() == 0:
        nexts = list(node.output(0).get_target_inputs())
        return _product_that_reads(nexts[0]) if len(nexts) == 1 else None
    return None


def _replace(node: Any, other: Any) -> None:
    other.output(0).set_names(node.output(0).get_names())
    for target in node.output(0).get_target_inputs():
        target.replace_source_output(other.output(0))


def _number(value: float) -> Any:
    return ops.constant(np.float32(value))


def _integers(values: Any) -> Any:
    return ops.constant(values, np.int64)
