"""ONNX operations in float64, each of them exact sums, IEEE operations and the elementary functions of `model`.

Numbers made of positions and scalars alone stay float32, as every runner computes them: buckets of relative positions
depend on their rounding. Whatever meets a weight is float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from scoremux_engine.errors import RunnerError
from scoremux_engine.model import elementary
from scoremux_engine.model.exact_products import WholeParts, part_bits, product, product_of_parts, total

Attributes = Mapping[str, Any]
_FLOAT, _FLOAT16, _DOUBLE, _BFLOAT16 = 1, 10, 11, 16
_TYPES = {6: np.int32, 7: np.int64, 9: np.bool_}


class Factor:
    """A constant right factor of products, cut into parts once; float32 holds them."""

    def __init__(self, values: Any) -> None:
        self.values = values
        self._parts: WholeParts | None = None
        self._sizes: Any = None

    def parts(self) -> WholeParts:
        """Return its parts."""
        if self._parts is None:
            cut = WholeParts.of(self.values, -2, part_bits(self.values.shape[-2]))
            self._parts = WholeParts(tuple(whole.astype(np.float32) for whole in cut.wholes), cut.units)
        wholes = tuple(whole.astype(np.float64) for whole in self._parts.wholes)
        return WholeParts(wholes, self._parts.units)

    def size_values(self) -> Any:
        """Return the values' sizes in float32."""
        if self._sizes is None:
            self._sizes = np.abs(self.values.astype(np.float32))
        return self._sizes


def compute(kind: str, inputs: Sequence[Any], attributes: Attributes, outputs: int) -> tuple[Any, ...]:
    """Compute one node.

    Args:
        kind: The operation's name.
        inputs: Its inputs in order; None where an optional one is absent.
        attributes: By name.
        outputs: How many it has.

    Raises:
        RunnerError: The operation is not known.
    """
    if kind == "Split":
        return tuple(_split(inputs, attributes, outputs))
    operation = _OPERATIONS.get(kind)
    if operation is None:
        raise RunnerError(f"the judge does not compute the operation {kind}")
    return (operation(attributes, *inputs),)


def _elementwise(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda _attributes, *inputs: function(*inputs)


def _matmul(_attributes: Attributes, left: Any, right: Any) -> Any:
    if isinstance(right, Factor):
        bits = part_bits(left.shape[-1])
        return product_of_parts(WholeParts.of(left, -1, bits), right.parts())
    return product(np.asarray(left, np.float64), np.asarray(right, np.float64))


def _gemm(attributes: Attributes, a: Any, b: Any, c: Any = None) -> Any:
    left = a.T if attributes.get("transA") else a
    right = b.T if attributes.get("transB") else b
    out = product(left, np.ascontiguousarray(right)) * attributes.get("alpha", 1.0)
    return out if c is None else out + c * attributes.get("beta", 1.0)


def _softmax(attributes: Attributes, x: Any) -> Any:
    if attributes.get("axis", -1) not in (-1, x.ndim - 1):
        raise RunnerError("the judge computes a Softmax over the last axis alone")
    powers = elementary.exp(x - x.max(axis=-1, keepdims=True))
    return powers / total(powers)


def _layer_normalization(attributes: Attributes, x: Any, scale: Any, bias: Any = None) -> Any:
    count = x.shape[-1]
    apart = x - total(x) / count
    out = apart / np.sqrt(total(apart * apart) / count + exact_constant(attributes.get("epsilon", 1e-5))) * scale
    return out if bias is None else out + bias


def _reduce_mean(attributes: Attributes, x: Any, axes: Any) -> Any:
    if [axis % x.ndim for axis in axes] != [x.ndim - 1] or not attributes.get("keepdims", 1):
        raise RunnerError("the judge computes a ReduceMean over the last axis alone")
    return total(x) / x.shape[-1]


def _pow(_attributes: Attributes, x: Any, power: Any) -> Any:
    exponent = float(power)
    if exponent in (2.0, 3.0):
        return x * x if exponent == 2.0 else x * x * x
    if exponent in (0.5, -0.5):
        return np.sqrt(x) if exponent > 0 else 1.0 / np.sqrt(x)
    raise RunnerError(f"the judge does not compute the power {exponent}")


def _log(_attributes: Attributes, x: Any) -> Any:
    with np.errstate(divide="ignore", invalid="ignore"):
        out = elementary.log(np.where(x > 0, x, 1.0).astype(np.float64))
    return np.where(x > 0, out, -np.inf).astype(x.dtype)


def _gelu(attributes: Attributes, x: Any) -> Any:
    by_tanh = attributes.get("approximate", b"none") in (b"tanh", "tanh")
    return elementary.gelu_tanh(x) if by_tanh else elementary.gelu(x)


def _cast(attributes: Attributes, x: Any) -> Any:
    to = attributes["to"]
    if to in (_FLOAT, _FLOAT16, _DOUBLE, _BFLOAT16):
        return x if np.asarray(x).dtype == np.float64 else np.asarray(x).astype(np.float32)
    with np.errstate(invalid="ignore"):  # minus infinity, where a mask takes its place afterwards
        return np.asarray(x).astype(_TYPES[to])


def _divide(_attributes: Attributes, a: Any, b: Any) -> Any:
    if np.issubdtype(np.asarray(a).dtype, np.integer):
        return (np.sign(a) * np.sign(b)) * (np.abs(a) // np.abs(b))
    return a / b


def _wave(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda _attributes, x: function(np.asarray(x, np.float64))


def _slice(_attributes: Attributes, x: Any, starts: Any, ends: Any, axes: Any = None, steps: Any = None) -> Any:
    places = range(len(starts)) if axes is None else axes
    strides = [1] * len(starts) if steps is None else steps
    cut = [slice(None)] * x.ndim
    for start, end, axis, step in zip(starts, ends, places, strides, strict=True):
        last = None if step < 0 and end < -x.shape[axis] else int(end)
        cut[axis] = slice(int(start), last, int(step))
    return x[tuple(cut)]


def _split(inputs: Sequence[Any], attributes: Attributes, outputs: int) -> list[Any]:
    x, axis = inputs[0], attributes.get("axis", 0)
    if len(inputs) > 1 and inputs[1] is not None:
        return list(np.split(x, np.cumsum(inputs[1])[:-1], axis=axis))
    size = -(-x.shape[axis] // outputs)
    return list(np.split(x, range(size, size * outputs, size), axis=axis))


def _reshape(attributes: Attributes, x: Any, shape: Any) -> Any:
    kept = [x.shape[place] if n == 0 and not attributes.get("allowzero") else int(n) for place, n in enumerate(shape)]
    return np.reshape(x, kept)


def _gather_nd(attributes: Attributes, x: Any, indices: Any) -> Any:
    batch = attributes.get("batch_dims", 0)
    leading = np.indices(indices.shape[:-1], sparse=True)[:batch]
    return x[(*leading, *(indices[..., place] for place in range(indices.shape[-1])))]


def _squeeze(_attributes: Attributes, x: Any, axes: Any = None) -> Any:
    return np.squeeze(x, axis=None if axes is None else tuple(int(axis) for axis in axes))


def _unsqueeze(_attributes: Attributes, x: Any, axes: Any) -> Any:
    return np.expand_dims(x, tuple(int(axis) for axis in axes))


def _shape(attributes: Attributes, x: Any) -> Any:
    return np.array(np.shape(x)[attributes.get("start", 0) : attributes.get("end")], dtype=np.int64)


def _cumsum(attributes: Attributes, x: Any, axis: Any) -> Any:
    if attributes.get("exclusive") or attributes.get("reverse"):
        raise RunnerError("the judge computes a CumSum from the first place on alone")
    return np.cumsum(x, axis=int(axis), dtype=x.dtype)


def _arg_max(attributes: Attributes, x: Any) -> Any:
    axis = attributes.get("axis", 0)
    out = np.argmax(x, axis=axis)
    return np.expand_dims(out, axis) if attributes.get("keepdims", 1) else out


def _clip(_attributes: Attributes, x: Any, low: Any = None, high: Any = None) -> Any:
    return np.clip(x, -np.inf if low is None else low, np.inf if high is None else high).astype(x.dtype)


_ELEMENTWISE: dict[str, Callable[..., Any]] = {
    "Abs": np.abs,
    "Add": np.add,
    "And": np.logical_and,
    "Ceil": np.ceil,
    "Equal": np.equal,
    "Erf": elementary.erf,
    "Exp": elementary.exp,
    "Expand": lambda x, shape: np.broadcast_to(x, np.broadcast_shapes(np.shape(x), tuple(shape))),
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "Identity": lambda x: x,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
    "Max": lambda *x: np.maximum.reduce(np.broadcast_arrays(*x)),
    "Min": lambda *x: np.minimum.reduce(np.broadcast_arrays(*x)),
    "Mul": np.multiply,
    "Neg": np.negative,
    "Not": np.logical_not,
    "Or": np.logical_or,
    "Range": np.arange,
    "Reciprocal": lambda x: 1.0 / x,
    "Relu": lambda x: np.maximum(x, 0.0),
    "Sigmoid": elementary.sigmoid,
    "Sign": np.sign,
    "Sqrt": np.sqrt,
    "Sub": np.subtract,
    "Tanh": elementary.tanh,
    "Where": np.where,
}
_OPERATIONS: dict[str, Callable[..., Any]] = {
    **{name: _elementwise(function) for name, function in _ELEMENTWISE.items()},
    "ArgMax": _arg_max,
    "Cast": _cast,
    "Clip": _clip,
    "Concat": lambda attributes, *x: np.concatenate([np.atleast_1d(part) for part in x], axis=attributes["axis"]),
    "Cos": _wave(elementary.cos),
    "CumSum": _cumsum,
    "Div": _divide,
    "Gather": lambda attributes, x, places: np.take(x, places, axis=attributes.get("axis", 0)),
    "GatherElements": lambda attributes, x, places: np.take_along_axis(x, places, axis=attributes.get("axis", 0)),
    "GatherND": _gather_nd,
    "Gelu": _gelu,
    "Gemm": _gemm,
    "LayerNormalization": _layer_normalization,
    "Log": _log,
    "MatMul": _matmul,
    "Pow": _pow,
    "ReduceMean": _reduce_mean,
    "Reshape": _reshape,
    "Shape": _shape,
    "Sin": _wave(elementary.sin),
    "Slice": _slice,
    "Softmax": _softmax,
    "Squeeze": _squeeze,
    "Transpose": lambda attributes, x: np.transpose(x, attributes.get("perm")),
    "Unsqueeze": _unsqueeze,
}


def exact_constant(rounded: float) -> float:
    """Return the number that a float32 scalar was rounded from, as a model's author wrote it.

    Those are decimals of at most five digits, √n and 1 / √n of whole n, and √(2/π); another number is itself.
    """
    if not math.isfinite(rounded) or rounded == 0.0:
        return rounded
    single, size = np.float32(rounded), abs(rounded)
    whole = round(size * size) if size >= 1 else round(1 / (size * size))
    root = 0.0
    if 0 < whole < 1 << 20:
        root = math.copysign(math.sqrt(whole) if size >= 1 else 1 / math.sqrt(whole), rounded)
    candidates = (float(f"{rounded:.4e}"), root, math.copysign(math.sqrt(2 / math.pi), rounded))
    return next((candidate for candidate in candidates if np.float32(candidate) == single), float(rounded))
