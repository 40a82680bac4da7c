"""The form for micro-batches of one task: its adapter's products are computed for packed tokens, as the backbone's."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import openvino
from openvino import opset13 as ops

from scoremux_engine.model import backbone as names
from scoremux_engine.model.backbone import BackboneSpec
from scoremux_engine.model.buckets import SizeClass
from scoremux_engine.model.tables import Tables, input_shapes
from scoremux_engine.runners.packing import TokenPacking, value_of

_RANKS, _LEVELS, _SPREAD = (8, 64), 8, 0.05


def pack_one_task(model: openvino.Model, spec: BackboneSpec) -> frozenset[str]:
    """Rewrite a model as `pack_tokens` does, for rows of one group; return the inputs that it adds.

    y = x @ W + (x @ A[group[0]]) @ B[group[0]], x of packed tokens [1, N, D_in]: nothing is gathered by row. Where the
    head reads a row's first token alone, sites after the last attention are computed for those tokens, too.
    """
    return frozenset(_OneTask(model, spec).rewrite())


def random_tables(spec: BackboneSpec) -> Iterator[Tables]:
    """Yield random tables of one task, by rank, to compare both forms with."""
    draw = np.random.default_rng(0)
    for rank in _RANKS:
        shapes = input_shapes(spec, SizeClass(rank, _LEVELS))
        yield Tables({n: draw.normal(0, _SPREAD, (1, *shape)).astype(np.float32) for n, shape in shapes.items()})


class _OneTask(TokenPacking):
    def __init__(self, model: openvino.Model, spec: BackboneSpec) -> None:
        super().__init__(model, spec.max_tokens)
        self._tables = {name for site in spec.sites for name in site.inputs}
        parameters = model.get_parameters()
        (group,) = (p for p in parameters if names.GROUP in p.output(0).get_names())
        zero = ops.constant(0, np.int64)
        self._group = ops.gather(group, ops.constant([0], np.int64), zero)
        for node in self._nodes:
            if node.get_type_name() == "MatMul" and self._has_tokens(node.input_value(0)):
                self._read_first(node)

    def _read_first(self, product: Any) -> None:
        """Let a product of tokens with the tables of their rows be one with the first row's table.

        Magnitudes and biases stay by row: their sums and products would become part of another kernel, which in
        bfloat16 rounds less often.
        """
        gather = product.input_value(1).get_node()
        if gather.get_type_name() != "Gather" or not gather.input_value(0).get_names() & self._tables:
            return
        first = ops.gather(gather.input_value(0), self._group, gather.input_value(2)).output(0)
        product.input(1).replace_source_output(first)
        self._shared.add(value_of(first))
        self._widths.setdefault((product.get_name(), 0), 0)  # [B, S, R]: always packed, so R is not asked for
