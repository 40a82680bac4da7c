"""How far float32 can take a difference of two logits from its value in float64, derived from the operations.

|Δ| ≤ Σ over values v of the graph |∂(zᵢ − zⱼ) / ∂v| · |error made at v|, to first order (Linnainmaa 1976). The error
that an operation makes is its standard bound, whatever the order of a sum and whether products are fused: γ_K · |x| |W|
for a product with K terms. What an elementary function may err is in `_ULPS`. `SAFETY` is for terms of higher order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from scoremux_engine.errors import RunnerError
from scoremux_engine.judge.exact_graph import ExactGraph, Node
from scoremux_engine.judge.exact_operations import Factor, compute

Array = npt.NDArray[np.float64]

UNIT = 2.0**-24
"""Half the distance from 1 to the next float32."""
SAFETY = 2.0
_ULPS = 16.0
"""Units that an elementary function may err, of its result; Erf, Tanh, Sin, Cos, Sigmoid: of 1; Gelu(x): of x.

Twice the most that was measured at half a million places, in OpenVINO (Erf: 8.3) and ONNX Runtime (Tanh: 5.2).
"""
_ROUNDED_ALREADY = 4
"""Further roundings of a product: tables are scaled, and scalars are folded into weights, in float32."""

_MOVES = {
    *("Cast", "Concat", "Expand", "Gather", "GatherElements", "GatherND", "Identity", "Reshape", "Slice", "Split"),
    *("Squeeze", "Transpose", "Unsqueeze", "Where"),
}
_SLOPES_BY_INPUT: dict[str, Callable[[Any], Any]] = {
    "Abs": np.sign,
    "Cos": lambda x: -np.sin(x),
    "Erf": lambda x: 2 / np.sqrt(np.pi) * np.exp(-x * x),
    "Log": lambda x: 1 / x,
    "Neg": lambda x: -np.ones_like(x),
    "Relu": lambda x: (x > 0).astype(np.float64),
    "Sin": np.cos,
}
_SLOPES_BY_OUTPUT: dict[str, Callable[[Any], Any]] = {
    "Exp": lambda y: y,
    "Reciprocal": lambda y: -y * y,
    "Sigmoid": lambda y: y * (1 - y),
    "Sqrt": lambda y: 0.5 / y,
    "Tanh": lambda y: 1 - y * y,
}


def difference_bounds(graph: ExactGraph, output: str, feeds: Mapping[str, Any], width: int) -> tuple[Array, Array]:
    """Return one row's logits and how far float32 can take each from the largest, relative to it.

    Args:
        graph: The backbone's.
        output: The logits' name.
        feeds: Of one row.
        width: Outputs of the task's head.

    Returns:
        float64 [width], float64 [width]: of one output, its own bound; else 0 for the largest logit.

    Raises:
        RunnerError: The graph has an operation that no bound is known of.
    """
    nodes, values = graph.record([output], feeds)
    steps = _steps(nodes, values)
    logits = values[output][0, :width]
    bounds = np.zeros(width)
    top = int(np.argmax(logits))
    for other in range(width):
        if other == top and width > 1:
            continue
        seed = np.zeros_like(values[output])
        seed[0, top] = 1.0
        if width > 1:
            seed[0, other] = -1.0
        bounds[other] = SAFETY * _sum_of_errors(steps, output, seed)
    return logits, bounds


class _Step:
    """A node whose output rounding moves: how to go back through it, and what error it makes itself."""

    def __init__(self, node: Node, inputs: list[Any], outputs: list[Any], live: list[bool], terms: int) -> None:
        self.node, self.inputs, self.outputs, self.live = node, inputs, outputs, live
        self.error = _error(node, inputs, outputs[0], live, terms)


def _steps(nodes: list[Node], values: Mapping[str, Any]) -> list[_Step]:
    live: set[str] = set()
    terms: dict[str, int] = {}
    steps = []
    for node in nodes:
        inputs = [values[name] if name else None for name in node.inputs]
        outputs = [values[name] for name in node.outputs]
        moved = node.kind in _MOVES
        if getattr(outputs[0], "dtype", None) != np.float64 or (moved and not live.intersection(node.inputs)):
            continue
        if node.kind in ("MatMul", "Gemm"):
            terms[node.outputs[0]] = np.shape(_plain(inputs[0]))[-1]
        elif node.kind == "Add":
            terms[node.outputs[0]] = max(terms.get(name, 0) for name in node.inputs)
        steps.append(
            _Step(node, inputs, outputs, [name in live for name in node.inputs], terms.get(node.outputs[0], 0))
        )
        live.update(node.outputs)
    return steps


def _adjoints(steps: list[_Step], output: str, seed: Array) -> Iterator[tuple[_Step, Array]]:
    """Yield each step that `output` depends on with its own output's adjoint, the last first; seed: of `output`."""
    adjoints: dict[str, Array] = {output: seed}
    for step in reversed(steps):
        grads = [adjoints.pop(name, None) for name in step.node.outputs]
        if all(grad is None for grad in grads):
            continue
        whole = [np.zeros_like(x) if grad is None else grad for grad, x in zip(grads, step.outputs, strict=True)]
        yield step, whole[0]
        if any(step.live):
            for name, is_live, pulled in zip(step.node.inputs, step.live, _pull(step, whole), strict=False):
                if is_live and pulled is not None:
                    adjoints[name] = adjoints[name] + pulled if name in adjoints else pulled


def _sum_of_errors(steps: list[_Step], output: str, seed: Array) -> float:
    """Return Σ |adjoint| · error."""
    bound = 0.0
    for step, adjoint in _adjoints(steps, output, seed):
        if step.error is not None:  # where a mask is infinite, nothing depends on it
            made = np.multiply(np.abs(adjoint), step.error, where=adjoint != 0, out=np.zeros_like(adjoint))
            bound += float(made.sum())
    return bound


def _plain(x: Any) -> Any:
    return x.values if isinstance(x, Factor) else x


def _size(x: Any) -> Any:
    return x.size_values() if isinstance(x, Factor) else np.abs(np.asarray(x, np.float32))


def _error(node: Node, inputs: list[Any], y: Any, live: list[bool], terms: int) -> Any:
    """Return the largest error that the operation makes for exact inputs, by place; None for none."""
    kind, u = node.kind, UNIT
    if kind in _MOVES or kind in ("Abs", "Neg", "Relu", "Max", "Min", "Clip"):
        return None
    if kind in ("MatMul", "Gemm"):
        left, right = _size(inputs[0]), _size(inputs[1])
        if kind == "Gemm":
            left = left.T if node.attributes.get("transA") else left
            right = right.T if node.attributes.get("transB") else right
        size = (left @ right).astype(np.float64) * 1.001  # computed in float32
        for added in inputs[2:]:
            size = size + np.abs(added)
        return (terms + _ROUNDED_ALREADY) * u * size
    if kind in ("Add", "Sub"):
        a, b = (np.abs(x) for x in inputs)
        # A bias may be what a sum begins with: it is then in each partial sum.
        return u * ((1 + terms * (not live[0])) * a + (1 + terms * (not live[1])) * b)
    if kind in ("Mul", "Div", "Sqrt", "Reciprocal", "Pow"):
        return _ROUNDED_ALREADY * u * np.abs(y)
    if kind in ("Exp", "Log"):
        return _ULPS * u * np.abs(y)
    if kind in ("Erf", "Tanh", "Sigmoid", "Sin", "Cos"):
        return np.full_like(y, _ULPS * u)
    if kind == "Gelu":
        return _ULPS * u * np.abs(inputs[0])
    if kind == "ReduceMean":
        x = inputs[0]
        return (x.shape[-1] + 1) * u * np.abs(x).mean(axis=-1, keepdims=True)
    if kind == "Softmax":
        x = inputs[0]
        below = np.where(y > 0, x.max(axis=-1, keepdims=True) - x, 0.0)
        return (np.minimum(below, 1e4) + x.shape[-1] + _ULPS + _ROUNDED_ALREADY) * u * y
    if kind == "LayerNormalization":
        return _norm_error(node, inputs, y)
    raise RunnerError(f"no bound of rounding errors is known for the operation {kind}: judge with --no-bounds")


def _norm_parts(node: Node, x: Array) -> tuple[Array, Array, Array]:
    """Return the mean, what is left, and the root of the variance."""
    mean = x.mean(axis=-1, keepdims=True)
    apart = x - mean
    variance = (apart * apart).mean(axis=-1, keepdims=True)
    return mean, apart, np.sqrt(variance + node.attributes.get("epsilon", 1e-5))


def _norm_error(node: Node, inputs: list[Any], y: Array) -> Array:
    """Of the mean, of the variance as the mean of squares less the square of the mean, and of each step."""
    x, scale, bias = inputs[0], inputs[1], inputs[2] if len(inputs) > 2 else None
    u, count = UNIT, x.shape[-1]
    mean, apart, root = _norm_parts(node, x)
    of_apart = (count + 1) * u * np.abs(x).mean(axis=-1, keepdims=True) + u * np.abs(apart)
    of_square = (count + 3) * u * ((x * x).mean(axis=-1, keepdims=True) + mean * mean)
    relative = of_square / (2 * root * root) + _ROUNDED_ALREADY * u
    scaled = np.abs(y if bias is None else y - bias)
    return np.asarray(np.abs(scale) / root * of_apart + scaled * relative + u * np.abs(y))


def _pull(step: _Step, grads: list[Array]) -> list[Any]:
    """Return the adjoints of a node's inputs from those of its outputs."""
    node, kind, grad = step.node, step.node.kind, grads[0]
    x, y = step.inputs[0], step.outputs[0]
    if kind in _MOVES:
        return _pull_moved(step, grads)
    if kind in _SLOPES_BY_INPUT:
        return [grad * _SLOPES_BY_INPUT[kind](x)]
    if kind in _SLOPES_BY_OUTPUT:
        return [grad * _SLOPES_BY_OUTPUT[kind](y)]
    if kind in ("MatMul", "Gemm"):
        return _pull_product(node, x, _plain(step.inputs[1]), grad, step.live)
    if kind in ("Add", "Sub", "Mul", "Div"):
        a, b = step.inputs
        to_a = {"Add": 1.0, "Sub": 1.0, "Mul": b, "Div": 1.0 / b if kind == "Div" else None}[kind]
        to_b = {"Add": 1.0, "Sub": -1.0, "Mul": a, "Div": -y / b if kind == "Div" else None}[kind]
        pairs = zip((to_a, to_b), (a, b), step.live, strict=True)
        return [_to_shape(grad * slope, np.shape(into)) if live else None for slope, into, live in pairs]
    if kind == "Pow":
        power = float(step.inputs[1])
        return [grad * power * (y / x if power == 0.5 else x ** (power - 1))]
    if kind in ("Max", "Min", "Clip"):
        return [
            _to_shape(np.where(y == into, grad, 0.0), np.shape(into)) if live else None
            for into, live in zip(step.inputs, step.live, strict=True)
        ]
    if kind == "Gelu":
        return [grad * _gelu_slope(node, x)]
    if kind == "ReduceMean":
        return [np.broadcast_to(grad / x.shape[-1], x.shape)]
    if kind == "Softmax":
        return [y * (grad - (grad * y).sum(axis=-1, keepdims=True))]
    if kind == "LayerNormalization":
        _, apart, root = _norm_parts(node, x)
        normed, scaled = apart / root, grad * step.inputs[1]
        inner = scaled.mean(axis=-1, keepdims=True) + normed * (scaled * normed).mean(axis=-1, keepdims=True)
        return [(scaled - inner) / root]
    raise RunnerError(f"no derivative is known for the operation {kind}: judge with --no-bounds")


def _pull_moved(step: _Step, grads: list[Array]) -> list[Any]:
    """Each output place is a copy of an input place: find which by moving the places' numbers."""
    places, start = [], 0
    for x, live in zip(step.inputs, step.live, strict=True):
        if live:
            places.append(np.arange(start, start + np.size(x)).reshape(np.shape(x)))
            start += np.size(x)
        elif step.node.kind == "Concat" or (step.node.kind == "Where" and x is not step.inputs[0]):
            places.append(np.full(np.shape(x), -1))
        else:
            places.append(x)
    if step.node.kind == "Cast":
        moved = [places[0]]
    else:
        moved = list(compute(step.node.kind, places, step.node.attributes, len(step.outputs)))
    into = np.concatenate([np.ravel(place) for place in moved]).astype(np.int64)
    values = np.concatenate([np.ravel(grad) for grad in grads])
    kept = into >= 0
    totals = np.bincount(into[kept], values[kept], minlength=start)
    pulled, start = [], 0
    for x, live in zip(step.inputs, step.live, strict=True):
        pulled.append(totals[start : start + np.size(x)].reshape(np.shape(x)) if live else None)
        start += np.size(x) * live
    return pulled


def _pull_product(node: Node, left: Any, right: Any, grad: Array, live: list[bool]) -> list[Any]:
    if node.kind == "Gemm":
        grad = grad * node.attributes.get("alpha", 1.0)
        right = right.T if node.attributes.get("transB") else right
        to_left = grad @ right.T
        return [to_left.T if node.attributes.get("transA") else to_left, None, None]
    to_left = _to_shape(grad @ np.swapaxes(right, -1, -2), np.shape(left)) if live[0] else None
    to_right = _to_shape(np.swapaxes(left, -1, -2) @ grad, np.shape(right)) if live[1] else None
    return [to_left, to_right]


def _gelu_slope(node: Node, x: Array) -> Array:
    step = 1e-6  # a derivative to six digits is enough for a bound
    up, down = (compute("Gelu", [x + sign * step], node.attributes, 1)[0] for sign in (1, -1))
    return np.asarray((up - down) / (2 * step))


def _to_shape(grad: Array, shape: tuple[int, ...]) -> Array:
    """Sum over the axes along which an input was repeated."""
    grad = grad.sum(axis=tuple(range(grad.ndim - len(shape)))) if grad.ndim > len(shape) else grad
    repeated = tuple(axis for axis, size in enumerate(shape) if size == 1 and grad.shape[axis] != 1)
    return grad.sum(axis=repeated, keepdims=True) if repeated else grad
