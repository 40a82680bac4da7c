"""One float32 arithmetic for x86 processors with AVX2 and at least 512 KiB of L2 cache a core.

OpenVINO's kernels for some operations add in an order that depends on the width of vector registers or on the size of
the L2 cache, or compute something else: Gelu (erf), Softmax, LayerNorm, the means of RMSNorms, and products with
weights of more than 768 rows. They are written here in operations whose bits are equal on those processors that were
compared (`engine/equal_bits.md`); each process measures what it computes (`runners.arithmetic`).
"""

from functools import reduce
from typing import Any

import numpy as np
import openvino
from openvino import opset13 as ops

from scoremux_engine.model import backbone as names
from scoremux_engine.runners.packing import SEGMENTS_UNPACK, UNPACK, Value, is_constant, read_instead, value_of

_KEEPS_LAST_AXIS = ("Reshape", "Squeeze", "Unsqueeze")
_MOVES = (*_KEEPS_LAST_AXIS, "Transpose", "Split", "VariadicSplit")
_PADDED = 8
"""Padding of the row that masks are computed for."""
PIECE = 768
"""Most rows of a constant W in one product x @ W. OpenVINO adds in blocks whose length follows the L2 cache: 256 rows
with 256 KiB, 768 with 512 KiB, 1,024 from 1 MiB on. Pieces of 256 would serve all of them, and cost 6 to 12 %."""


Pieces = dict[tuple[Value, int], list[Any]]
"""A constant that was split, along an axis → its pieces."""


def make_portable(model: openvino.Model, max_tokens: int) -> None:
    """Rewrite a float32 model of packed tokens in place, so that its bits do not depend on the width of registers.

    Gelu(x) becomes h · erf(h · √2) + h with h = x / 2, a form that OpenVINO does not turn back into its Gelu.
    softmax(x) @ V becomes (e @ V) / (e @ 1) with e = exp(x − max x): a product adds in the same order everywhere.
    Where x = s + mask and padding repeats a key, max x is max s, and the mask is added in the pass that computes e.
    Means become products, too. A product with a constant of more than PIECE rows becomes one for each piece, added in
    order.

    max_tokens: the most tokens of a row.
    """
    masks, weights = _Masks(max_tokens), Pieces()
    for node in model.get_ordered_ops():
        kind = node.get_type_name()
        if kind == "Gelu" and node.get_attributes()["approximation_mode"].lower() == "erf":
            read_instead(node, _gelu(node.input_value(0)))
        elif kind == "Softmax":
            _replace_softmax(node, masks)
        elif kind == "MVN":
            read_instead(node, _normalised(node))
        elif kind == "ReduceMean":
            read_instead(node, _mean(node.input_value(0)))
        elif kind == "MatMul" and is_constant(node.input_value(1)):
            split_product(node, weights)
    model.validate_nodes_and_infer_types()


def _gelu(x: Any) -> Any:
    half = ops.multiply(x, _number(0.5))  # nothing else reads x, so what computes x halves what it writes
    return ops.add(ops.multiply(half, ops.erf(ops.multiply(half, _number(2**0.5)))), half)


def _normalised(node: Any) -> Any:
    """(x − mean x) / √(mean (x − mean x)² + ε), over the last axis"""
    x = node.input_value(0)
    apart = ops.subtract(x, _mean(x))
    variance = _mean(ops.multiply(apart, apart).output(0))
    return ops.divide(apart, ops.sqrt(ops.add(variance, _number(node.get_attributes()["eps"]))))


def _mean(x: Any) -> Any:
    """x @ [1/H, …]: [..., H] → [..., 1]"""
    columns = int(x.get_partial_shape()[-1].get_length())
    return ops.matmul(x, ops.constant(np.full((columns, 1), 1 / columns, np.float32)), False, False)


def split_product(node: Any, weights: Pieces) -> None:
    """y = x[:, :P] @ W[:P] + x[:, P:2P] @ W[P:2P] + …; weights: pieces of those that were split already."""
    by_column, weight = node.get_attributes()["transpose_b"], node.input_value(1)
    axis = len(weight.get_shape()) - (1 if by_column else 2)
    columns = weight.get_shape()[axis]
    if columns <= PIECE or node.get_attributes()["transpose_a"]:
        return
    starts = range(0, columns, PIECE)
    key = value_of(weight), axis
    if key not in weights:  # layers may share one
        parts = np.split(weight.get_node().get_data(), starts[1:], axis)
        weights[key] = [ops.constant(np.ascontiguousarray(part)) for part in parts]
    lengths = _integers([min(PIECE, columns - start) for start in starts])
    pieces = ops.variadic_split(node.input_value(0), _integers(-1), lengths).outputs()
    products = [ops.matmul(x, w, False, by_column) for x, w in zip(pieces, weights[key], strict=True)]
    read_instead(node, reduce(ops.add, products))


def _replace_softmax(node: Any, masks: "_Masks") -> None:
    """Divide after the product with V where one reads the weights, else at once. The axis is the last."""
    x = node.input_value(0)
    largest = ops.reduce_max(masks.with_same_max(x), _integers([-1]), keep_dims=True)
    powers = ops.exp(ops.subtract(x, largest)).output(0)
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


class _Masks:
    """Knows which masks are 0 for every query at all keys but padding."""

    def __init__(self, max_tokens: int) -> None:
        self._attended = np.ones((1, max_tokens), np.int64)
        self._attended[:, -_PADDED:] = 0
        self._hides_padding: dict[tuple[str, int], bool] = {}

    def with_same_max(self, x: Any) -> Any:
        """Return s where x = s + mask and each row of s holds no number that the same row of x, unpadded, has not.

        The keys of padding are then those of the row's last token (`packed_feeds`), and its scores are that token's.
        """
        node = x.get_node()
        if node.get_type_name() != "Add":
            return x
        scores, mask = node.input_values()
        product = scores.get_node()
        if product.get_type_name() == "Multiply" and _is_scalar(product.input_value(1)):
            product = product.input_value(0).get_node()
        by_keys = product.get_type_name() == "MatMul" and _repeats_padding(product.input_value(1))
        return scores if by_keys and self._is_of_padding(mask) else x

    def _is_of_padding(self, mask: Any) -> bool:
        key = value_of(mask)
        if key not in self._hides_padding:
            self._hides_padding[key] = self._computes_zero(mask)
        return self._hides_padding[key]

    def _computes_zero(self, mask: Any) -> bool:
        parameters = _parameters_of(mask.get_node())
        feeds = {parameter.output(0).get_any_name(): self._attended for parameter in parameters}
        if not feeds.keys() <= {names.INPUT_IDS, names.ATTENTION_MASK, names.TOKEN_TYPE_IDS}:
            return False
        compiled = openvino.Core().compile_model(openvino.Model([mask], parameters, "mask"), "CPU")
        values = compiled(feeds)[0]
        return bool(values.shape[-1] == self._attended.size and not values[..., :-_PADDED].any())


def _parameters_of(node: Any) -> list[Any]:
    """Return the parameters that a node's value depends on."""
    nodes, waiting = {node.get_name(): node}, [node]
    while waiting:
        for source in waiting.pop().input_values():
            if source.get_node().get_name() not in nodes:
                nodes[source.get_node().get_name()] = source.get_node()
                waiting.append(source.get_node())
    return [node for node in nodes.values() if node.get_type_name() == "Parameter"]


def _repeats_padding(value: Any) -> bool:
    """Whether what a value has for padding is what it has for the row's last token: it is computed token by token."""
    node = value.get_node()
    kind, sources = node.get_type_name(), node.input_values()
    if kind == "Gather" and sources[1].get_names() & {UNPACK, SEGMENTS_UNPACK}:
        return True
    if kind == "MatMul":  # with a row's tables
        return not node.get_attributes()["transpose_a"] and _repeats_padding(sources[0])
    if kind in ("Add", "Multiply"):
        return any(map(_repeats_padding, sources)) and all(_repeats_padding(s) or _is_by_row(s) for s in sources)
    return kind in _MOVES and _repeats_padding(sources[0])


def _is_by_row(value: Any) -> bool:
    """Whether all tokens of a row meet it alike: only its first and last axis have more than one place."""
    shape = value.get_partial_shape()
    return shape.rank.is_static and all(size.is_static and size.get_length() == 1 for size in list(shape)[1:-1])


def _is_scalar(value: Any) -> bool:
    return is_constant(value) and all(size == 1 for size in value.get_shape())


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


def _number(value: float) -> Any:
    return ops.constant(np.float32(value))


def _integers(values: Any) -> Any:
    return ops.constant(values, np.int64)
