"""The exported graph, computed node by node in float64."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from scoremux_engine.errors import RunnerError
from scoremux_engine.judge.exact_operations import Factor, compute, exact_constant


@dataclass(frozen=True)
class Node:
    """One operation.

    Attributes:
        kind: Its name in ONNX.
        inputs: Names of values; empty where an optional one is absent.
        outputs: Names of values.
        attributes: By name.
    """

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]


class ExactGraph:
    """A graph read from a file; constants: its weights, by name. Raises RunnerError where it cannot be read."""

    def __init__(self, path: Path) -> None:
        try:
            graph = onnx.load(path).graph
        except Exception as error:  # the library raises many unrelated types
            raise RunnerError(f"{path} cannot be read as an ONNX graph: {error}") from error
        self._nodes = [
            Node(
                node.op_type,
                tuple(node.input),
                tuple(node.output),
                {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute},
            )
            for node in graph.node
        ]
        factors = {node.inputs[1] for node in self._nodes if node.kind == "MatMul"}
        self.constants = {
            constant.name: _constant(constant.name, numpy_helper.to_array(constant), constant.name in factors)
            for constant in graph.initializer
        }

    def run(self, outputs: Sequence[str], feeds: Mapping[str, Any]) -> list[Any]:
        """Return the values of some outputs; only what they need is computed."""
        nodes = self._needed(outputs)
        left = Counter(name for node in nodes for name in node.inputs)
        left.update(outputs)
        values = {**self.constants, **feeds}
        for node in nodes:
            add_outputs(values, node)
            for name in node.inputs:
                left[name] -= 1
                if not left[name] and name not in self.constants and name not in feeds:
                    values.pop(name, None)
        return [values[name] for name in outputs]

    def record(self, outputs: Sequence[str], feeds: Mapping[str, Any]) -> tuple[list[Node], dict[str, Any]]:
        """Return the operations that some outputs need, in order, and every value by name."""
        nodes, values = self._needed(outputs), {**self.constants, **feeds}
        for node in nodes:
            add_outputs(values, node)
        return nodes, values

    def _needed(self, outputs: Sequence[str]) -> list[Node]:
        needed, nodes = set(outputs), []
        for node in reversed(self._nodes):
            if needed.intersection(node.outputs):
                needed.update(node.inputs)
                nodes.append(node)
        return nodes[::-1]


def add_outputs(values: dict[str, Any], node: Node) -> None:
    """Compute a node's outputs."""
    inputs = [values[name] if name else None for name in node.inputs]
    plain = [x.values if isinstance(x, Factor) and node.kind != "MatMul" else x for x in inputs]
    values.update(zip(node.outputs, compute(node.kind, plain, node.attributes, len(node.outputs)), strict=True))


def _constant(name: str, values: Any, is_factor: bool) -> Any:
    """Return a constant as nodes read it: floats as float64.

    A scalar that the model does not name was written in its code, and is the number that it was rounded from.
    """
    if values.dtype not in (np.float32, np.float16, np.float64):
        return values
    if values.size == 1 and not is_factor:
        return float(values.item()) if "." in name else exact_constant(float(values.item()))
    wide = values.astype(np.float64)
    return Factor(wide) if is_factor and wide.ndim >= 2 else wide
