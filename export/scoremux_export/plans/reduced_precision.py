"""The graph in float16 or bfloat16: products in the narrow type, sums and norms in float32, as torch.autocast does."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from scoremux_engine.model.backbone import ONNX, Backbone, head_inputs, magnitude_input, site_inputs
from scoremux_engine.model.buckets import SizeClass
from scoremux_engine.model.plan import PlanParity
from scoremux_engine.model.tables import Tables, input_shapes
from scoremux_engine.runners.onnxruntime import OnnxRuntimeRunner
from scoremux_engine.scoring.computation import pad
from scoremux_engine.selftest import MADE_UP_WORDS
from scoremux_export.errors import ExportError
from scoremux_export.opening.graph import ONE_FILE_BYTES
from scoremux_files.atomic import replacing

FLOAT = TensorProto.FLOAT
NARROW = {"float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}
FILES = {"float16": "backbone.fp16.onnx", "bfloat16": "backbone.bf16.onnx"}

_GROUPS = 8
_TYPES = {FLOAT: np.float32, TensorProto.FLOAT16: np.float16, TensorProto.BFLOAT16: ml_dtypes.bfloat16}
_PRODUCTS = ("MatMul", "Gemm")
# These compute in the type of what they read, in float32 if the types differ; all operations not named stay in float32.
_POINTWISE = "Add Sub Mul Neg Where Identity Gelu Relu Tanh Sigmoid Swish"
_MOVING = "Gather GatherND GatherElements Reshape Transpose Unsqueeze Squeeze Expand Flatten Concat Split Slice"
_FOLLOWING = frozenset(f"{_POINTWISE} {_MOVING}".split())


def write_reduced(backbone: Backbone, precision: str) -> Path:
    """Write the graph in `precision` beside ``backbone.onnx``; its inputs and outputs keep names, types and shapes.

    Raises:
        ExportError: The precision is not one of NARROW.
    """
    if precision not in NARROW:
        raise ExportError(f"precision is {precision!r}; a reduced graph is written in {', '.join(NARROW)}")
    model = onnx.load(backbone.onnx)
    head = [name for linear in backbone.spec.head for name in head_inputs(linear.name)]
    reduce(model, NARROW[precision], frozenset(head))
    path = backbone.folder / FILES[precision]
    large = sum(len(tensor.raw_data) for tensor in model.graph.initializer) > ONE_FILE_BYTES
    if large:  # the graph names the file of its weights, so that file keeps its name
        (path.parent / f"{path.name}.data").unlink(missing_ok=True)
        onnx.save(model, path, save_as_external_data=True, location=f"{path.name}.data")
        return path
    with replacing(path) as part:
        onnx.save(model, part)
    return path


def compare_reduced(backbone: Backbone, precision: str, rows: int = 64, seed: int = 0) -> PlanParity:
    """Compare the reduced graph with the float32 graph on ONNX Runtime, on made-up texts with random adapters.

    What the CPU has no kernels for is computed in float32 and rounded (`as_float32`).
    """
    draw = np.random.default_rng(seed)
    tables = _random_tables(backbone, draw)
    counts = draw.integers(2, min(64, backbone.spec.max_tokens), rows)
    tokens = list(backbone.tokenizer.encode(" ".join(draw.choice(MADE_UP_WORDS, n)) for n in counts))
    longest = max(len(row.ids) for row in tokens)
    inputs = pad(tokens, np.arange(rows, dtype=np.int64) % _GROUPS, longest, backbone.spec)
    expected = OnnxRuntimeRunner(backbone).run(inputs, tables).logits
    with reduced_runner(backbone, precision) as runner:
        got = runner.run(inputs, tables).logits
    return PlanParity(
        rows=rows,
        max_abs_logit_difference=float(np.abs(got - expected).max()),
        levels_changed=int((got.argmax(1) != expected.argmax(1)).sum()),
    )


@contextmanager
def reduced_runner(backbone: Backbone, precision: str) -> Iterator[OnnxRuntimeRunner]:
    """Give a runner that computes what the reduced graph says, on the CPU."""
    model = onnx.load(backbone.folder / FILES[precision])
    as_float32(model, NARROW[precision])
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / ONNX
        onnx.save(model, path, save_as_external_data=True, location=f"{ONNX}.data")
        yield OnnxRuntimeRunner(backbone, graph=path)


def _random_tables(backbone: Backbone, draw: np.random.Generator) -> Tables:
    """Return tables as trained ones are in size: outputs about as large as inputs, deltas a tenth of that."""
    shapes, arrays = input_shapes(backbone.spec, SizeClass(16, 8)), {}
    for name, shape in shapes.items():
        scale = 0.1 if len(shape) == 1 or name.startswith(site_inputs("")[1]) else shape[0] ** -0.5
        drawn = draw.normal(0, scale, (_GROUPS, *shape)).astype(np.float32)
        arrays[name] = 1 + drawn if name.startswith(magnitude_input("")) else drawn
    return Tables(arrays)


def reduce(model: onnx.ModelProto, narrow: int, head: frozenset[str] = frozenset()) -> None:
    """Change a float32 graph in place.

    Products of tokens' vectors with weights, adapters and each other take and give `narrow`. Kept in float32 are: the
    products of the head; products of positions alone (rotary angles); norms, softmax, exponents, trigonometry and
    reductions; embeddings; and the inputs and outputs.

    Args:
        model: The graph, with the types of its inner tensors as the exporter writes them.
        narrow: TensorProto.FLOAT16 or BFLOAT16.
        head: Inputs of the graph that hold the head's tables.
    """
    _Reduction(model.graph, narrow, head).run()


def as_float32(model: onnx.ModelProto, narrow: int) -> None:
    """Change a reduced graph in place so that a runtime without kernels for `narrow` computes it.

    Every operation on narrow values computes in float32 and its result is rounded: what a GPU does that sums products
    in float32.
    """
    graph, nodes = model.graph, []
    low = {t.name for t in graph.initializer if t.data_type == narrow}
    for number, node in enumerate(graph.node):
        if node.op_type == "Cast":
            low |= set(node.output) if helper.get_node_attr_value(node, "to") == narrow else set()
            nodes.append(node)
            continue
        read = [i for i, name in enumerate(node.input) if name in low]
        for i in read:
            nodes.append(helper.make_node("Cast", [node.input[i]], [f"{node.input[i]}.{number}.{i}"], to=FLOAT))
            node.input[i] = nodes[-1].output[0]
        nodes.append(node)
        if not read or node.op_type in _NO_FLOAT_OUTPUT:
            continue
        for i, name in enumerate(node.output):
            node.output[i] = f"{name}.wide"
            nodes.append(helper.make_node("Cast", [node.output[i]], [name], to=narrow))
            low.add(name)
    del graph.node[:]
    del graph.value_info[:]
    graph.node.extend(nodes)


_NO_FLOAT_OUTPUT = frozenset(("Shape", "Size", "ArgMax", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal"))


@dataclass
class _Reduction:
    """One pass over a graph. low: names in the narrow type; moving: names that depend on tokens or adapters."""

    graph: onnx.GraphProto
    narrow: int
    head: frozenset[str]
    low: set[str] = field(default_factory=set)
    moving: set[str] = field(default_factory=set)
    of_head: set[str] = field(default_factory=set)
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    made: dict[tuple[str, int], str] = field(default_factory=dict)

    def run(self) -> None:
        graph = self.graph
        self.constants = {tensor.name: tensor for tensor in graph.initializer}
        self.floats = {v.name for v in (*graph.input, *graph.value_info, *graph.output) if _type(v) == FLOAT}
        self.floats |= {name for name, tensor in self.constants.items() if tensor.data_type == FLOAT}
        self.moving = {value.name for value in graph.input if _type(value) == FLOAT}
        for node in graph.node:
            self._visit(node)
        for output in graph.output:
            self._widen(output.name)
        del graph.node[:]
        graph.node.extend(self.nodes)
        used = {name for node in self.nodes for name in node.input}
        kept = [tensor for name, tensor in self.constants.items() if name in used]
        del graph.initializer[:]
        graph.initializer.extend(kept)
        del graph.value_info[:]  # the types of before

    def _visit(self, node: onnx.NodeProto) -> None:
        reads = [name for name in node.input if name in self.floats]
        # A table of embeddings, picked from by tokens.
        if any(name in self.moving for name in node.input) or (node.op_type == "Gather" and reads):
            self.moving.update(node.output)
        if any(name in self.head or name in self.of_head for name in reads) and node.op_type not in _PRODUCTS:
            self.of_head.update(node.output)
        kind = self._kind(node, reads)
        if node.op_type != "Cast":
            for i, name in enumerate(node.input):
                if name in self.floats:
                    node.input[i] = self._as(name, kind)
        if kind == self.narrow:
            self.low.update(name for name in node.output if name in self.floats)
        self.nodes.append(node)

    def _kind(self, node: onnx.NodeProto, reads: list[str]) -> int:
        """Return the type that a node computes in."""
        if node.op_type in _PRODUCTS:
            of_tokens = any(name in self.moving for name in reads) and not any(n in self.of_head for n in reads)
            return self.narrow if of_tokens else FLOAT
        variable = [name for name in reads if name not in self.constants]
        follows = node.op_type in _FOLLOWING and variable and all(name in self.low for name in variable)
        return self.narrow if follows else FLOAT

    def _as(self, name: str, kind: int) -> str:
        """Return the name of a tensor in the type `kind`, made where it is not there yet."""
        if (name in self.low) == (kind == self.narrow):
            return name
        if (name, kind) not in self.made:
            self.made[name, kind] = other = f"{name}.{'float32' if kind == FLOAT else 'narrow'}"
            if name in self.constants:
                self.constants[other] = _converted(self.constants[name], other, kind)
            else:
                self.nodes.append(helper.make_node("Cast", [name], [other], name=f"cast_{other}", to=kind))
        return self.made[name, kind]

    def _widen(self, output: str) -> None:
        if output not in self.low:
            return
        for node in self.nodes:
            for names in (node.input, node.output):
                for i, name in enumerate(names):
                    names[i] = f"{output}.narrow" if name == output else name
        self.nodes.append(helper.make_node("Cast", [f"{output}.narrow"], [output], to=FLOAT))


def _converted(tensor: onnx.TensorProto, name: str, kind: int) -> onnx.TensorProto:
    """Return a float32 constant in another type; what is beyond its range becomes its largest number, not infinity."""
    values = numpy_helper.to_array(tensor)
    most = float(ml_dtypes.finfo(_TYPES[kind]).max)
    values = np.where(np.isfinite(values), np.clip(values, -most, most), values).astype(_TYPES[kind])
    return helper.make_tensor(name, kind, values.shape, values.tobytes(), raw=True)


def _type(value: Any) -> int:
    return int(value.type.tensor_type.elem_type)
