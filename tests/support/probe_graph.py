"""Writes the probe, the backbone that an arithmetic is named by: python tests/support/probe_graph.py

It is in `scoremux_engine/runners/probe`. It has every kind of product, activation, softmax, norm and mean that exported
backbones have, and sums of 8 to 4,096 numbers. Its weights are computed from their places, in whole numbers, when a
library loads it: the file stays small. If you change it, all digests change: record them again (`recorded_probes.py`).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models

from scoremux_engine.model.backbone import Backbone, BackboneSpec, HeadLinear, Parity, Site
from scoremux_engine.runners.arithmetic import PROBE
from scoremux_export.measure import measure
from scoremux_files.digests import file_digest

HIDDEN, HEADS, WORDS, LONGEST = 64, 4, 64, 512
ATTENTION = Site(name="attention.value", d_in=HIDDEN, d_out=HIDDEN, dora=True, bias=True)
DOWN = Site(name="output.dense", d_in=1536, d_out=HIDDEN)
HEAD = HeadLinear(name="classifier", d_in=HIDDEN, d_out=None)
WIDTHS = {"relu": 8, "tanh": 200, "gelu_tanh": 384, "gelu_powers": 768, "gelu": 1024, "sigmoid": 784, "silu": 4096}
"""Activation → how many columns it has."""


class Graph:
    """Builds one graph; each method adds operations and returns the name of what they compute."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._count = self._start = 0
        self._pool = self.pool(HIDDEN * max(WIDTHS.values()) + 37 * 99)

    def op(self, kind: str, *inputs: str, **attributes: object) -> str:
        self._count += 1
        name = f"{kind.lower()}_{self._count}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name, **attributes))
        return name

    def constant(self, values: object, dtype: type = np.int64) -> str:
        self._count += 1
        name = f"constant_{self._count}"
        self.constants.append(numpy_helper.from_array(np.array(values, dtype), name))
        return name

    def number(self, value: float) -> str:
        return self.constant(value, np.float32)

    def pool(self, size: int) -> str:
        """Return float32 numbers between −1 and 1, each computed from its place in whole numbers."""
        places = self.op("Range", self.constant(0), self.constant(size), self.constant(1))
        prime = self.constant(2**31 - 1)
        mixed = self.op("Add", self.op("Mul", places, self.constant(48271)), self.constant(7919))
        for _ in range(2):
            mixed = self.op("Mod", mixed, prime)
            mixed = self.op("Mul", mixed, mixed)
        small = self.op(
            "Cast", self.op("Mod", self.op("Mod", mixed, prime), self.constant(65536)), to=TensorProto.FLOAT
        )
        return self.op("Sub", self.op("Mul", small, self.number(2**-15)), self.number(1.0))

    def weight(self, *shape: int, scale: float = 1.0, offset: float = 0.0) -> str:
        """Return numbers of the pool from another place each time, times `scale`, around `offset`."""
        self._start += 37
        ends = [self.constant([self._start]), self.constant([self._start + int(np.prod(shape))])]
        scaled = self.op("Mul", self.op("Slice", self._pool, *ends), self.number(scale))
        if offset:
            scaled = self.op("Add", scaled, self.number(offset))
        return self.op("Reshape", scaled, self.constant(shape))

    def linear(self, x: str, d_in: int, d_out: int, bias: bool = True) -> str:
        y = self.op("MatMul", x, self.weight(d_in, d_out, scale=(3 / d_in) ** 0.5))
        return self.op("Add", y, self.weight(d_out, scale=0.1)) if bias else y

    def rows_of(self, table: str) -> str:
        return self.op("Gather", table, "group", axis=0)

    def adapter(self, x: str, site: Site) -> str:
        return self.op("MatMul", self.op("MatMul", x, self.rows_of(f"A.{site.name}")), self.rows_of(f"B.{site.name}"))

    def by_row(self, table: str) -> str:
        return self.op("Unsqueeze", self.rows_of(table), self.constant([1]))

    def layer_norm(self, x: str) -> str:
        return self.op(
            "LayerNormalization", x, self.weight(HIDDEN, scale=0.2, offset=1.0), self.weight(HIDDEN, scale=0.1),
            axis=-1, epsilon=1e-12,
        )  # fmt: skip

    def rms_norm(self, x: str) -> str:
        squares = self.op("Pow", x, self.number(2.0))
        mean = self.op("ReduceMean", squares, self.constant([-1]), keepdims=1)
        root = self.op("Sqrt", self.op("Add", mean, self.number(1e-6)))
        one = self.op("Mul", x, self.op("Reciprocal", root))
        other = self.op("Div", x, root)
        both = self.op("Mul", self.op("Add", one, other), self.number(0.5))
        return self.op("Mul", both, self.weight(HIDDEN, scale=0.2, offset=1.0))

    def heads(self, x: str) -> str:
        shape = self.constant([0, 0, HEADS, HIDDEN // HEADS])
        return self.op("Transpose", self.op("Reshape", x, shape), perm=[0, 2, 1, 3])

    def attend(self, q: str, k: str, v: str, mask: str, cap: float = 0.0) -> str:
        scores = self.op("MatMul", q, self.op("Transpose", k, perm=[0, 1, 3, 2]))
        scores = self.op("Mul", scores, self.number((HIDDEN // HEADS) ** -0.5))
        if cap:
            scores = self.op("Mul", self.op("Tanh", self.op("Div", scores, self.number(cap))), self.number(cap))
        read = self.op("MatMul", self.op("Softmax", self.op("Add", scores, mask), axis=-1), v)
        return self.op("Reshape", self.op("Transpose", read, perm=[0, 2, 1, 3]), self.constant([0, 0, HIDDEN]))

    def rotated(self, x: str, cos: str, sin: str) -> str:
        left, right = (
            self.op("Slice", x, self.constant([a]), self.constant([b]), self.constant([3]))
            for a, b in ((0, HIDDEN // HEADS // 2), (HIDDEN // HEADS // 2, HIDDEN // HEADS))
        )
        turned = self.op("Concat", self.op("Neg", right), left, axis=-1)
        return self.op("Add", self.op("Mul", x, cos), self.op("Mul", turned, sin))

    def activate(self, kind: str, x: str) -> str:
        """Write an activation as exported graphs have it."""
        if kind in ("relu", "tanh", "sigmoid"):
            return self.op(kind.capitalize(), x)
        if kind == "silu":
            return self.op("Mul", x, self.op("Sigmoid", x))
        if kind == "gelu_powers":
            cube = self.op("Mul", self.op("Pow", x, self.number(3.0)), self.number(0.044715))
            inner = self.op("Tanh", self.op("Mul", self.op("Add", x, cube), self.number((2 / np.pi) ** 0.5)))
            return self.op("Mul", self.op("Mul", x, self.number(0.5)), self.op("Add", inner, self.number(1.0)))
        return self.op("Gelu", x, approximate="tanh" if kind == "gelu_tanh" else "none")


def build() -> onnx.ModelProto:
    """Return the graph: embeddings, a layer as encoders have it, one as decoders have it, activations, and a head."""
    g = Graph()
    length = g.op("Shape", "input_ids", start=1, end=2)
    places = g.op("Range", g.constant(0), g.op("Squeeze", length), g.constant(1))
    words = g.op("Gather", g.weight(WORDS, HIDDEN), "input_ids", axis=0)
    x = g.layer_norm(g.op("Add", words, g.op("Gather", g.weight(LONGEST, HIDDEN), places, axis=0)))

    attended = g.op("Unsqueeze", g.op("Cast", "attention_mask", to=TensorProto.BOOL), g.constant([1, 2]))
    padding = g.op("Where", attended, g.number(0.0), g.number(float(np.finfo(np.float32).min)))
    later = g.op("Less", g.op("Unsqueeze", places, g.constant([1])), g.op("Unsqueeze", places, g.constant([0])))
    causal = g.op("Add", padding, g.op("Where", later, g.number(-1e30), g.number(0.0)))

    x = encoder_layer(g, x, padding)
    x = decoder_layer(g, x, causal, places)
    for kind, width in WIDTHS.items():
        block = g.linear(g.activate(kind, g.linear(x, HIDDEN, width)), width, HIDDEN)
        x = g.layer_norm(g.op("Add", x, block))
    pool(g, x)
    shapes = {"input_ids": ["B", "S"], "attention_mask": ["B", "S"], "group": ["B"]}
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, shape) for name, shape in shapes.items()]
    for part in (ATTENTION, DOWN, HEAD):
        inputs += [helper.make_tensor_value_info(n, TensorProto.FLOAT, list(s)) for n, s in part.inputs.items()]
    outputs = [
        helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["B", "L_max"]),
        helper.make_tensor_value_info("pooled", TensorProto.FLOAT, ["B", HIDDEN]),
    ]
    graph = helper.make_graph(g.nodes, "probe", inputs, outputs, g.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


def encoder_layer(g: Graph, x: str, mask: str) -> str:
    """Attention and a feed-forward block, each followed by LayerNorm; adapters of all kinds."""
    query, key = g.linear(x, HIDDEN, HIDDEN), g.linear(x, HIDDEN, HIDDEN)
    value = g.op("Add", g.linear(x, HIDDEN, HIDDEN, bias=False), g.adapter(x, ATTENTION))
    value = g.op("Mul", value, g.by_row(f"M.{ATTENTION.name}"))
    value = g.op("Add", g.op("Add", value, g.weight(HIDDEN, scale=0.1)), g.by_row(f"bias.{ATTENTION.name}"))
    read = g.attend(g.heads(query), g.heads(key), g.heads(value), mask)
    x = g.layer_norm(g.op("Add", g.linear(read, HIDDEN, HIDDEN), x))
    inner = g.activate("gelu", g.linear(x, HIDDEN, DOWN.d_in))
    block = g.op("Add", g.linear(inner, DOWN.d_in, HIDDEN), g.adapter(inner, DOWN))
    return g.layer_norm(g.op("Add", block, x))


def decoder_layer(g: Graph, x: str, mask: str, places: str) -> str:
    """RMSNorm, rotary embeddings, soft caps, and a gated feed-forward block."""
    half = HIDDEN // HEADS // 2
    speeds = g.constant(10_000.0 ** -(np.arange(half) / half), np.float32)
    angles = g.op("Mul", g.op("Unsqueeze", g.op("Cast", places, to=TensorProto.FLOAT), g.constant([1])), speeds)
    both = g.op("Concat", angles, angles, axis=-1)
    cos, sin = g.op("Cos", both), g.op("Sin", both)
    normed = g.rms_norm(x)
    query, key, value = (g.heads(g.linear(normed, HIDDEN, HIDDEN, bias=False)) for _ in range(3))
    read = g.attend(g.rotated(query, cos, sin), g.rotated(key, cos, sin), value, mask, cap=50.0)
    x = g.op("Add", x, g.linear(read, HIDDEN, HIDDEN, bias=False))
    normed = g.rms_norm(x)
    gate = g.activate("silu", g.linear(normed, HIDDEN, 3072, bias=False))
    inner = g.op("Mul", gate, g.linear(normed, HIDDEN, 3072, bias=False))
    return g.op("Add", x, g.linear(inner, 3072, HIDDEN, bias=False))


def pool(g: Graph, x: str) -> None:
    """pooled = tanh of a row's first token and of the mean of its tokens; logits = pooled @ weight[group] + bias"""
    first = g.op("Gather", x, g.constant(0), axis=1)
    mask = g.op("Unsqueeze", g.op("Cast", "attention_mask", to=TensorProto.FLOAT), g.constant([2]))
    total = g.op("ReduceSum", g.op("Mul", x, mask), g.constant([1]), keepdims=0)
    mean = g.op("Div", total, g.op("ReduceSum", mask, g.constant([1]), keepdims=0))
    dense = g.op(
        "Gemm", g.op("Add", first, mean), g.weight(HIDDEN, HIDDEN, scale=0.2), g.weight(HIDDEN, scale=0.1), transB=1
    )
    g.nodes.append(helper.make_node("Tanh", [dense], ["pooled"]))
    row = g.op("Unsqueeze", "pooled", g.constant([1]))
    logits = g.op("Squeeze", g.op("MatMul", row, g.rows_of(f"weight.{HEAD.name}")), g.constant([1]))
    g.nodes.append(helper.make_node("Add", [logits, g.rows_of(f"bias.{HEAD.name}")], ["logits"]))


def write(folder: Path = PROBE) -> Backbone:
    """Write the probe as a backbone; return it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "backbone.onnx").write_bytes(build().SerializeToString(deterministic=True))
    vocabulary = {"[UNK]": 0, **{f"w{n}": n for n in range(1, WORDS)}}
    Tokenizer(models.WordLevel(vocabulary, "[UNK]")).save(str(folder / "tokenizer.json"), pretty=False)
    spec = BackboneSpec(
        architecture="Probe", source="tests/support/probe_graph.py", sites=(ATTENTION, DOWN), head=(HEAD,),
        max_tokens=LONGEST, pad_id=0, pooled_size=HIDDEN, parity=Parity(rows=0, max_abs_logit_difference=0.0),
        made_with={}, files={name: file_digest(folder / name) for name in ("backbone.onnx", "tokenizer.json")},
    )  # fmt: skip
    spec = spec.model_copy(update={"digest": spec.own_digest()})
    backbone = Backbone(folder, spec)
    measure(backbone)
    return backbone


def operations(model: onnx.ModelProto) -> Sequence[str]:
    """Return the kinds of operations of a graph, an activation with its approximation."""
    return [
        node.op_type + "".join(f" {a.s.decode()}" for a in node.attribute if a.name == "approximate")
        for node in model.graph.node
    ]


if __name__ == "__main__":
    write()
