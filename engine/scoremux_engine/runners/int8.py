"""int8: the products of tokens with the backbone's weights, in eight bits."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino
from openvino import opset13 as ops

from scoremux_engine.errors import RunnerError
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.model.tokens import Tokens
from scoremux_engine.runners.packing import Value, is_constant, read_instead, same_for_all, value_of
from scoremux_engine.runners.portable_math import Pieces, split_product
from scoremux_engine.runners.runner import Floats, RowInputs, pad

Ranges = dict[str, Floats]
"""The graph's name of what a LayerNorm gives, x [.., D] → the largest |x| by column, float32 [D]."""

RANGES = "range."
"""How the names of stored ranges begin; one of this name alone says that ranges were measured, if there are any."""

_LARGEST = 127
_ROWS, _LENGTHS = 32, (8, 64)
# A random token is a rare one; those that most texts have are drawn for each fourth place.
_FREQUENT, _SHARE = """ . , ; : ! ? ' " ( ) - 0 1 2 3 a the of and to in is it """, 0.25
# Without it, 1 / s of a column that hardly moves would grow without bound.
_LEAST_RANGE = 1e-3
_MOVES = ("Gather", "Reshape", "Squeeze")


def stored_ranges(backbone: Backbone) -> Ranges:
    """Return the ranges that were measured at the export. Raises RunnerError where there are none."""
    if RANGES not in backbone.measured:
        raise RunnerError(
            f"{backbone.folder} has no ranges, which int8 needs: run `scoremux export measure "
            f"{backbone.folder.parents[1]}` where OpenVINO computes in x86-f32 (scoremux selftest names the arithmetic)"
        )
    named = [name for name in backbone.measured if name.startswith(RANGES) and name != RANGES]
    if any(backbone.measured[name].ndim != 1 for name in named):
        raise backbone.damaged
    return {name.removeprefix(RANGES): backbone.measured[name] for name in named}


def quantise(model: openvino.Model, ranges: Ranges) -> None:
    """Rewrite a model so that y = x @ W is computed in int8, W a constant, x of tokens.

    W has a scale for each output. Where x is what a LayerNorm gives, it has a constant scale for each column. Any other
    x is left to OpenVINO, which finds scales for each token as it comes (`precisions.GROUP_COLUMNS`); it adds the
    groups in an order that may follow the processor, so wide ones are split as in float32. No scale depends on another
    token, so a row's bits stay its own.

    A product has one scale for all columns of x: y = (x / s) @ (s · W) with s, the root of a column's range, leaves
    x / s and s · W half each of the columns' differences.

    Args:
        model: The graph as it was read, maybe rewritten by `pack_tokens`.
        ranges: Its ranges (`runners.norm_ranges`); empty where constant scales are not to be used.
    """
    pieces: Pieces = {}
    for product in [node for node in model.get_ordered_ops() if _is_product_of_tokens(node)]:
        if name_of(_unmoved(product.input_value(0))) not in ranges:
            split_product(product, pieces)
    rounded_already: dict[Value, Any] = {}
    weights: dict[tuple[Value, str], Any] = {}  # of layers that share them
    for product in [node for node in model.get_ordered_ops() if _is_product_of_tokens(node)]:
        source, weight = product.input_value(0), product.input_value(1).get_node().get_data()
        rows = np.asarray(weight if product.get_attributes()["transpose_b"] else weight.T, np.float32)
        norm = name_of(_unmoved(source))
        shared = value_of(product.input_value(1)), norm if norm in ranges else ""
        if norm in ranges:
            columns = ranges[norm]
            if len(columns) != rows.shape[1]:
                raise RunnerError(f"the stored range of {norm} has another width: run `scoremux export measure REPO`")
            smooth = np.sqrt(np.maximum(columns, max(columns.max(), np.finfo(np.float32).tiny) * _LEAST_RANGE))
            key, rows = value_of(source), rows * smooth
            if key not in rounded_already:
                evened = ops.multiply(source, ops.constant((1 / smooth)[None, None]))
                rounded_already[key] = rounded(evened, float(smooth.max())).output(0)
            source = rounded_already[key]
        if shared not in weights:
            weights[shared] = int8_constant(rows)
        read_instead(product, ops.matmul(source, weights[shared], False, True))
    model.validate_nodes_and_infer_types()


def int8_constant(rows: npt.NDArray[np.float32]) -> Any:
    """Return float32 [D_out, D_in] as int8 with a scale for each output, as a graph's value."""
    scale = np.maximum(np.abs(rows).max(axis=1, keepdims=True), np.finfo(np.float32).tiny) / _LARGEST
    quantised = ops.constant(np.round(rows / scale).astype(np.int8))
    return ops.multiply(ops.convert(quantised, np.float32), ops.constant(scale))


def rounded(value: Any, largest: float) -> Any:
    """Return a graph's value rounded to 256 steps, `largest` at the 127th above zero; larger ones are cut to it."""
    low, high = (ops.constant(np.float32(largest * step / _LARGEST)) for step in (-_LARGEST - 1, _LARGEST))
    return ops.fake_quantize(value, low, high, low, high, 2 * _LARGEST + 2)


def _is_product_of_tokens(node: Any) -> bool:
    """Whether it is x @ W, x [B, S, D_in] or packed [1, N, D_in].

    Those over responses (poolers) can have a single row, and a product of fewer than five takes another int8 kernel,
    whose last bits differ: they stay as they are.
    """
    if node.get_type_name() != "MatMul" or node.get_attributes()["transpose_a"] or not is_constant(node.input_value(1)):
        return False
    tokens, weight = node.input_value(0).get_partial_shape().rank, node.input_value(1).get_shape()
    return bool(tokens.is_static and tokens.get_length() == 3 and len(weight) == 2)


def end_of_norm(node: Any) -> Any:
    """Return the output of MVN(x) · weight + bias, of which either may be missing."""
    value = node.output(0)
    for kind in ("Multiply", "Add"):
        readers = [target.get_node() for target in value.get_target_inputs()]
        if (
            len(readers) == 1
            and readers[0].get_type_name() == kind
            and any(map(same_for_all, readers[0].input_values()))
        ):
            value = readers[0].output(0)
    return value


def name_of(value: Any) -> str:
    """Return the name that the exported graph gives a value; empty where it has none."""
    return min(value.get_names(), default="")


def _unmoved(source: Any) -> Any:
    """Return the source of a value of tokens, before tokens were moved, each with all its columns."""
    while (node := source.get_node()).get_type_name() in _MOVES and _columns(source) == _columns(node.input_value(0)):
        source = node.input_value(0)
    return source


def _columns(value: Any) -> Any:
    """Return D of a value [.., D] as OpenVINO's dimension; None where the number of axes is not known, or 0."""
    shape = value.get_partial_shape()
    return shape[-1] if shape.rank.is_static and len(shape) else None


def random_rows(backbone: Backbone) -> Iterator[RowInputs]:
    """Yield rows of random tokens within those that the tokenizer puts around a text, if any: one before, others after.

    Half of them are of the second type where the backbone takes types.
    """
    spec, tokenizer = backbone.spec, backbone.tokenizer
    draw = np.random.default_rng(0)
    around, frequent = (tokens.ids for tokens in tokenizer.encode(["", _FREQUENT]))
    for length in _LENGTHS:
        shape = _ROWS, min(length, spec.max_tokens)
        ids = draw.integers(0, max(1, tokenizer.size), shape)
        if frequent:
            ids = np.where(draw.random(shape) < _SHARE, draw.choice(frequent, shape), ids)
        if 0 < len(around) < shape[1]:
            ids[:, 0] = around[0]
            ids[:, shape[1] - len(around) + 1 :] = around[1:]
        rows = [Tokens(row.tolist(), [number % 2] * shape[1], False) for number, row in enumerate(ids)]
        yield pad(rows, np.zeros(_ROWS, np.int64), shape[1], spec)
