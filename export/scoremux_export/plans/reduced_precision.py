"""The graph in float16 or bfloat16: products in the narrow type, sums and norms in float32, as torch.autocast does."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx_ir as ir

from scoremux_engine.model.backbone import ONNX, REDUCED, Backbone, head_inputs, magnitude_input, site_inputs
from scoremux_engine.model.buckets import SizeClass
from scoremux_engine.model.plan import PlanParity
from scoremux_engine.model.tables import Tables, input_shapes
from scoremux_engine.runners.onnxruntime import OnnxRuntimeRunner
from scoremux_engine.runners.runner import pad
from scoremux_engine.selftest import MADE_UP_WORDS
from scoremux_export.errors import ExportError
from scoremux_export.opening.graph import ONE_FILE_BYTES
from scoremux_files.atomic import replacing

FLOAT = ir.DataType.FLOAT
NARROW = {"float16": ir.DataType.FLOAT16, "bfloat16": ir.DataType.BFLOAT16}

_GROUPS, _ROWS = 8, 64
_PRODUCTS = ("MatMul", "Gemm")
# These compute in the type of what they read, in float32 if the types differ; all operations not named stay in float32.
_POINTWISE = "Add Sub Mul Neg Where Identity Gelu Relu Tanh Sigmoid Swish"
_MOVING = "Gather GatherND GatherElements Reshape Transpose Unsqueeze Squeeze Expand Flatten Concat Split Slice"
_FOLLOWING = frozenset(f"{_POINTWISE} {_MOVING}".split())


def write_reduced(backbone: Backbone, precision: str) -> Path:
    """Write the graph in `precision` beside ``backbone.onnx``; its inputs and outputs keep names, types and shapes.

    Raises ExportError for a precision that is not one of NARROW.
    """
    if precision not in NARROW:
        raise ExportError(f"precision is {precision!r}; a reduced graph is written in {', '.join(NARROW)}")
    model = ir.load(backbone.onnx)
    head = [name for linear in backbone.spec.head for name in head_inputs(linear.name)]
    reduce(model, NARROW[precision], frozenset(head))
    path = backbone.folder / REDUCED[precision]
    constants = (value.const_value for value in model.graph.initializers.values())
    large = sum(tensor.nbytes for tensor in constants if tensor is not None) > ONE_FILE_BYTES
    if large:  # the graph names the file of its weights, so that file keeps its name
        ir.save(model, path, external_data=f"{path.name}.data")
        return path
    with replacing(path) as part:
        ir.save(model, part)
    return path


def compare_reduced(backbone: Backbone, precision: str) -> PlanParity:
    """Compare the reduced graph with the float32 graph on ONNX Runtime, on made-up texts with random adapters.

    Operations that the CPU has no kernels for are computed in float32 and rounded (`as_float32`).
    """
    draw = np.random.default_rng(0)
    tables = _random_tables(backbone, draw)
    counts = draw.integers(2, min(64, backbone.spec.max_tokens), _ROWS)
    tokens = list(backbone.tokenizer.encode(" ".join(draw.choice(MADE_UP_WORDS, n)) for n in counts))
    longest = max(len(row.ids) for row in tokens)
    inputs = pad(tokens, np.arange(_ROWS, dtype=np.int64) % _GROUPS, longest, backbone.spec)
    expected = OnnxRuntimeRunner(backbone).run(inputs, tables).logits
    with reduced_runner(backbone, precision) as runner:
        logits = runner.run(inputs, tables).logits
    return PlanParity(
        rows=_ROWS,
        max_abs_logit_difference=float(np.abs(logits - expected).max()),
        levels_changed=int((logits.argmax(1) != expected.argmax(1)).sum()),
    )


@contextmanager
def reduced_runner(backbone: Backbone, precision: str) -> Iterator[OnnxRuntimeRunner]:
    """Give a runner that computes what the reduced graph says, on the CPU."""
    model = ir.load(backbone.folder / REDUCED[precision])
    as_float32(model, NARROW[precision])
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / ONNX
        ir.save(model, path, external_data=f"{ONNX}.data")
        yield OnnxRuntimeRunner(backbone, graph=path)


def _random_tables(backbone: Backbone, draw: np.random.Generator) -> Tables:
    """Return tables as trained ones are in size: outputs about as large as inputs, deltas a tenth of that."""
    arrays = {}
    b, magnitude = site_inputs("")[1], magnitude_input("")
    for name, shape in input_shapes(backbone.spec, SizeClass(16, 8)).items():
        is_delta = len(shape) == 1 or name.startswith(b)
        scale = 0.1 if is_delta else shape[0] ** -0.5
        drawn = draw.normal(0, scale, (_GROUPS, *shape)).astype(np.float32)
        arrays[name] = 1 + drawn if name.startswith(magnitude) else drawn
    return Tables(arrays)


def reduce(model: ir.Model, narrow: ir.DataType, head: frozenset[str] = frozenset()) -> None:
    """Change a float32 graph in place.

    Products of tokens' vectors with weights, adapters and each other take and give `narrow`. Kept in float32 are: the
    products of the head; products of positions alone (rotary angles); norms, softmax, exponents, trigonometry and
    reductions; embeddings; and the inputs and outputs. head: the inputs of the graph that hold the head's tables.
    """
    graph, casts = model.graph, dict[tuple[ir.Value, ir.DataType], ir.Value]()
    # What depends on tokens or adapters, and what depends on the head's tables.
    moving = {value for value in graph.inputs if value.dtype == FLOAT}
    of_head = {value for value in graph.inputs if value.name in head}
    for node in list(graph):
        reads = [value for value in node.inputs if value is not None and value.dtype in (FLOAT, narrow)]
        if moving.intersection(node.inputs) or (node.op_type == "Gather" and reads):  # the latter picks embeddings
            moving.update(node.outputs)
        if of_head.intersection(reads) and node.op_type not in _PRODUCTS:
            of_head.update(node.outputs)
        if node.op_type == "Cast":
            continue
        if node.op_type in _PRODUCTS:
            in_narrow = bool(moving.intersection(reads)) and not of_head.intersection(reads)
        else:
            variable = [value for value in reads if not value.is_initializer()]
            in_narrow = node.op_type in _FOLLOWING and {value.dtype for value in variable} == {narrow}
        for place, value in enumerate(node.inputs):
            if value is not None and value.dtype in (FLOAT, narrow):
                node.replace_input_with(place, _as_type(value, narrow if in_narrow else FLOAT, node, casts))
        for value in node.outputs:
            if in_narrow and value.dtype == FLOAT:
                value.dtype = narrow
    for place, value in enumerate(graph.outputs):
        if value.dtype == narrow:
            graph.outputs[place] = _cast_after(value, FLOAT)
    for name in [name for name, value in graph.initializers.items() if not value.uses()]:
        del graph.initializers[name]


def as_float32(model: ir.Model, narrow: ir.DataType) -> None:
    """Change a reduced graph in place so that a runtime without kernels for `narrow` computes it.

    Every operation on narrow values computes in float32 and its result is rounded, as on a GPU that sums products in
    float32.
    """
    for node in list(model.graph):
        if node.op_type == "Cast":
            continue
        for place, value in enumerate(node.inputs):
            if value is not None and value.dtype == narrow:
                wide = ir.node("Cast", [value], {"to": FLOAT})
                wide.outputs[0].dtype = FLOAT
                model.graph.insert_before(node, wide)
                node.replace_input_with(place, wide.outputs[0])
        for value in node.outputs:
            if value.dtype == narrow:
                value.dtype, users = FLOAT, value.uses()
                rounded = _cast_after(value, narrow)
                for user, at in users:
                    user.replace_input_with(at, rounded)


def _as_type(
    value: ir.Value, kind: ir.DataType, user: ir.Node, casts: dict[tuple[ir.Value, ir.DataType], ir.Value]
) -> ir.Value:
    """Return a tensor in another type, made before `user` where `casts` lacks it."""
    if value.dtype == kind:
        return value
    if (value, kind) not in casts:
        name = f"{value.name}.{'float32' if kind == FLOAT else 'narrow'}"
        if value.const_value is not None and value.is_initializer():
            other = ir.val(name, const_value=_converted(value.const_value, name, kind))
            user.graph.register_initializer(other)  # type: ignore[union-attr]
        else:
            cast = ir.node("Cast", [value], {"to": kind}, outputs=[ir.val(name, dtype=kind, shape=value.shape)])
            user.graph.insert_before(user, cast)  # type: ignore[union-attr]
            other = cast.outputs[0]
        casts[value, kind] = other
    return casts[value, kind]


def _cast_after(value: ir.Value, kind: ir.DataType) -> ir.Value:
    """Return the output of a node in another type, under the name that it had."""
    name, node = value.name, value.producer()
    value.name = f"{name}.uncast"
    cast = ir.node("Cast", [value], {"to": kind}, outputs=[ir.val(name, dtype=kind, shape=value.shape)])
    node.graph.insert_after(node, cast)  # type: ignore[union-attr, arg-type]
    return cast.outputs[0]


def _converted(tensor: ir.TensorProtocol, name: str, kind: ir.DataType) -> ir.TensorProtocol:
    """Return a float32 constant in another type; a number beyond its range becomes its largest one, not infinity."""
    values, most = tensor.numpy(), float(ml_dtypes.finfo(kind.numpy()).max)
    values = np.where(np.isfinite(values), np.clip(values, -most, most), values)
    return ir.tensor(values.astype(kind.numpy()), name=name)
