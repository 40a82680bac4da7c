"""A backbone runner in float64: the exported graph, computed node by node by ONNX's reference implementation; and a
scorer of single rows with it.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from scoremux_engine.bank.residents import Version
from scoremux_engine.errors import RunnerError
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.model.tables import DTypes, Tables, size_class, stack
from scoremux_engine.runners.runner import BackboneRunner, RowInputs, pad
from scoremux_engine.scoring.computation import add_prefix
from scoremux_engine.store.reader import StoreReader

_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)
_error_function = np.vectorize(math.erf, otypes=[np.float64])


class Cast(OpRun):  # type: ignore[misc]
    """A cast that leaves float64 as it is.

    Values of positions alone are float32, as in every runner: buckets of relative positions depend on that.
    """

    op_domain = ""

    def _run(self, x: Any, to: int = 0, **_: Any) -> tuple[Any]:
        if to not in _FLOATS:
            return (x.astype(onnx.helper.tensor_dtype_to_np_dtype(to)),)
        return (x if x.dtype == np.float64 else x.astype(np.float32),)


class Erf(OpRun):  # type: ignore[misc]
    """The error function; the reference implementation's is rounded to float32."""

    op_domain = ""

    def _run(self, x: Any) -> tuple[Any]:
        return (_error_function(x),)


class Gelu(OpRun):  # type: ignore[misc]
    """x · Φ(x), or its approximation by tanh."""

    op_domain = ""

    def _run(self, x: Any, approximate: str = "none") -> tuple[Any]:
        if approximate == "tanh":
            return (0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),)
        return (0.5 * x * (1 + _error_function(x * math.sqrt(0.5))),)


class GatherElements(OpRun):  # type: ignore[misc]
    """Elements at places of one axis; the reference implementation's has wrong shapes for a row of places."""

    op_domain = ""

    def _run(
        self,
        x: Any,
        places: Any,
        axis: int = 0,
    ) -> tuple[Any]:
        return (np.take_along_axis(x, places, axis=axis),)


class Float64Graph:
    """A graph read from a file, its weights in float64. Raises RunnerError where it cannot be read or computed."""

    def __init__(self, path: Path) -> None:
        try:
            model = onnx.load(path)
            self._nodes = [(node, _evaluator(node, model.opset_import)) for node in model.graph.node]
        except Exception as error:  # the library raises many unrelated types
            raise RunnerError(f"{path} cannot be computed as an ONNX graph: {error}") from error
        self._weights = {tensor.name: _widened(numpy_helper.to_array(tensor)) for tensor in model.graph.initializer}

    def run(
        self,
        outputs: Sequence[str],
        feeds: Mapping[str, Any],
    ) -> list[Any]:
        """Return the values of some outputs; only needed values are computed, and kept while they are needed."""
        needed = Counter(outputs)
        nodes = []
        for node, evaluator in reversed(self._nodes):
            if any(needed[name] for name in node.output):
                needed.update(node.input)
                nodes.append((node, evaluator))
        values = {**self._weights, **feeds}
        for node, evaluator in reversed(nodes):
            named = {name: values[name] for name in node.input if name}
            try:
                values.update(zip(evaluator.output_names, evaluator.run(None, _of_one_type(named)), strict=True))
            except Exception as error:  # as above
                raise RunnerError(f"ONNX's reference implementation fails in {node.op_type}: {error}") from error
            needed.subtract(node.input)
            for name in named:
                if not needed[name]:
                    del values[name]
        return [values[name] for name in outputs]


def _evaluator(node: onnx.NodeProto, opsets: Sequence[onnx.OperatorSetIdProto]) -> ReferenceEvaluator:
    inputs, outputs = ([onnx.ValueInfoProto(name=name) for name in part if name] for part in (node.input, node.output))
    model = onnx.helper.make_model(
        onnx.helper.make_graph([node], "node", inputs, outputs),
        opset_imports=opsets,
    )
    return ReferenceEvaluator(model, new_ops=[Cast, Erf, GatherElements, Gelu])


def _widened(weights: Any) -> Any:
    """Return floats as float64. A scalar stays as it is: it gets the type of the other operand."""
    is_float = not np.issubdtype(weights.dtype, np.integer) and weights.dtype != np.bool_
    return weights.astype(np.float64 if weights.size > 1 else np.float32) if is_float else weights


def _of_one_type(inputs: dict[str, Any]) -> dict[str, Any]:
    """Return the inputs of a node, float32 as float64 where another one is float64."""
    if all(value.dtype != np.float64 for value in inputs.values()):
        return inputs
    return {name: value.astype(np.float64) if value.dtype == np.float32 else value for name, value in inputs.items()}


class Float64Runner(BackboneRunner):
    """Runs `backbone.onnx` in float64, slowly. See `BackboneRunner`."""

    precision = arithmetic = "float64"
    overlap = streams = 1
    in_place = anytime = True
    express = False

    def __init__(self, backbone: Backbone) -> None:
        self.dtypes: DTypes = dict.fromkeys(backbone.spec.table_inputs, np.dtype(np.float64))
        self._kept = backbone.spec.kept
        self._graph = Float64Graph(backbone.onnx)

    def _compute(
        self,
        rows: RowInputs,
        tables: Tables,
        outputs: list[str],
    ) -> list[Any]:
        return self._graph.run(outputs, {**rows.feeds, **tables.arrays})


class Float64Scorer:
    """Computes rows of any versions of a store in float64."""

    def __init__(self, backbone: Backbone, store: StoreReader) -> None:
        self._backbone = backbone
        self._store = store
        self._runner = Float64Runner(backbone)

    def version(self, digest: str) -> Version:
        """Read a version and, where it has a prefix, compute that. Raises PackageError."""
        package = self._store.read_package(digest, self._backbone, np.float64)
        package = add_prefix(package, self._backbone, self._runner)
        return Version.of(package, size_class(package.tables, package.outputs))

    def logits(
        self,
        version: Version,
        text: str,
    ) -> npt.NDArray[np.float64]:
        """Return a response's logits, float64 [outputs]. The row is computed alone, which takes the least memory."""
        spec = self._backbone.spec
        tables = stack(
            [version.tables],
            spec,
            version.size,
            self._runner.dtypes,
        )
        (tokens,) = self._backbone.tokenizer.encode([version.task.render(text)])
        before = version.prefix_tokens(tokens.ids, spec.pad_id)
        rest = tokens.after(before)
        inputs = pad(
            [rest],
            np.zeros(1, np.int64),
            self._backbone.buckets.of(len(rest.ids)),
            spec,
            [before],
        )
        outputs = self._runner.run(inputs, tables if before else tables.bare)
        return np.asarray(outputs.logits[0, : version.outputs], np.float64)
