"""Packing: operations on single tokens get the tokens of all rows one after the other, without padding."""

from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
import openvino
from openvino import opset13 as ops
from openvino import passes

from scoremux_engine.model import backbone as names
from scoremux_engine.model.backbone import BackboneSpec
from scoremux_engine.runners.runner import Ints, RowInputs
from scoremux_engine.runners.segments import STEP, Segments

PACK, UNPACK, FIRST, ROWS = "pack", "unpack", "first", "rows"
SEGMENTS, SEGMENTS_GROUP, SEGMENTS_PACK = "segments", "segments_group", "segments_pack"
SEGMENTS_UNPACK = "segments_unpack"
FIRST_SEGMENTS, FIRST_GROUP, FIRST_PACK = "first_segments", "first_segments_group", "first_segments_pack"
_OF_TWO_AXES = (UNPACK, SEGMENTS, SEGMENTS_UNPACK, FIRST_SEGMENTS)

# fmt: off
_BY_ELEMENT = frozenset((
    "Abs", "Add", "Clamp", "Convert", "Divide", "Elu", "Erf", "Exp", "Gelu", "HSigmoid", "HSwish", "Maximum", "Minimum",
    "Mish", "Multiply", "Negative", "Power", "Relu", "Sigmoid", "SoftPlus", "Sqrt", "Subtract", "Swish", "Tanh",
))
# fmt: on
_BY_VECTOR = frozenset(("MVN", "ReduceMean", "ReduceSum"))
_PROBE_ROWS = 10_007

_FROM_SEGMENTS = {
    (SEGMENTS, PACK): SEGMENTS_PACK,
    (SEGMENTS, UNPACK): SEGMENTS_UNPACK,
    (FIRST_SEGMENTS, FIRST): FIRST_PACK,
}
"""Layouts from and to → what is gathered."""

Value = tuple[str, int]


def pack_tokens(model: openvino.Model, spec: BackboneSpec) -> frozenset[str]:
    """Rewrite a model so that x @ W, W a constant, is computed for tokens only; return the inputs that it has now.

    Between such products, all that is computed token by token (norms, activations, sums) stays packed, [1, N, H].
    Everything else, such as attention, reads [B, S, H] as before. Where the head reads a row's first token alone, what
    comes after the last attention is computed for those tokens, [1, M, H].

    The adapters' products, x @ A[group] and (x @ A[group]) @ B[group], read tokens by segments of one group
    (`runners.segments`), [P, Q, H]: rows of one task are one segment.

    | input | |
    |---|---|
    | `pack` int32 [N] | the places of the packed tokens in [B · S] |
    | `unpack` int32 [B, S] | for each place, its packed token |
    | `first` int32 [M] | the packed token that is the first of each row |
    | `rows` int32 [B] | the first B of those M |
    | `segments` int32 [P, Q] | for each place in a segment, its packed token |
    | `segments_group` int32 [P] | the group of each segment |
    | `segments_pack` int32 [N] | the place in [P · Q] of each packed token |
    | `segments_unpack` int32 [B, S] | the place in [P · Q] of each place's token |
    | `first_segments`, `first_segments_group`, `first_segments_pack` | the same for the M first tokens |
    """
    return frozenset(_Packing(model, spec).rewrite())


def packed_feeds(rows: RowInputs) -> dict[str, Ints]:
    """Return the inputs that `pack_tokens` adds.

    Padding reads its own row's last token, so that a row gets nothing from another. The last of the packed tokens, and
    the last of the first tokens, are repeated until there are a multiple of STEP.
    """
    attended = rows.attention_mask.astype(np.bool_)
    unpack = np.cumsum(attended.ravel(), dtype=np.int32).reshape(attended.shape) - 1
    pack = _to_step(np.flatnonzero(attended).astype(np.int32))
    segments, first = Segments.of(rows.group[pack // attended.shape[1]]), Segments.of(_to_step(rows.group))
    return {
        PACK: pack,
        UNPACK: unpack,
        FIRST: _to_step(unpack[:, 0]),
        ROWS: np.arange(len(attended), dtype=np.int32),
        SEGMENTS: segments.tokens,
        SEGMENTS_GROUP: segments.group,
        SEGMENTS_PACK: segments.places,
        SEGMENTS_UNPACK: segments.places[unpack],
        FIRST_SEGMENTS: first.tokens,
        FIRST_GROUP: first.group,
        FIRST_PACK: first.places,
    }


def fold_constants(model: openvino.Model) -> None:
    """Compute what does not depend on the inputs, so that every weight is a constant of its own."""
    manager = passes.Manager()
    manager.register_pass(passes.ConstantFolding())
    manager.run_passes(model)


def _to_step(tokens: Ints) -> Ints:
    out = np.full(-(-len(tokens) // STEP) * STEP, tokens[-1])  # np.pad takes ten times as long
    out[: len(tokens)] = tokens
    return out


class _Packing:
    """Gives every value of tokens a layout: PACK, FIRST, their SEGMENTS, or UNPACK, which is what it had.

    A value is known by its node's name and the output's place.
    """

    def __init__(self, model: openvino.Model, spec: BackboneSpec) -> None:
        fold_constants(model)
        self._model, self._nodes = model, model.get_ordered_ops()
        self._widths = dict(_values_of_tokens(model, spec.max_tokens))
        self._tables = {name for site in spec.sites for name in site.inputs}
        for node in self._nodes:
            if self._is_of_adapter(node):
                self._widths.setdefault((node.get_name(), 0), 0)  # [B, S, R]: adapters alone read it, by segments
        self._layouts: dict[Value, str] = {}
        self._copies: dict[tuple[Value, str], Any] = {}
        self._inputs: dict[str, Any] = {}

    def rewrite(self) -> Collection[str]:
        """Rewrite the model; return the names of the inputs that it has now."""
        after_attention = self._only_for_pooling()
        for node in self._nodes:
            if self._is_of_adapter(node):
                self._compute_segments(node, FIRST_SEGMENTS if node.get_name() in after_attention else SEGMENTS)
            elif node.get_name() in after_attention:
                self._compute(node, FIRST)
            elif self._is_product(node) or self._stays_packed(node):
                self._compute(node, PACK)
            elif self._is_pooling(node) and self._layout(node.input_value(0)) == FIRST:
                self._pool(node)
            else:
                for place in range(node.get_input_size()):
                    self._read(node, place, UNPACK)
        if self._inputs:
            self._model.add_parameters([self._inputs[name] for name in sorted(self._inputs)])
            self._model.validate_nodes_and_infer_types()
        return self._inputs

    def _compute(self, node: Any, layout: str) -> None:
        for place, source in enumerate(node.input_values()):
            if self._has_tokens(source):
                self._read(node, place, layout)
        self._layouts[node.get_name(), 0] = layout

    def _compute_segments(self, node: Any, layout: str) -> None:
        self._compute(node, layout)
        table = node.input_value(1).get_node().input_value(0)
        group = SEGMENTS_GROUP if layout == SEGMENTS else FIRST_GROUP
        node.input(1).replace_source_output(self._gather(table, group, axis=0))

    def _read(self, node: Any, place: int, layout: str) -> None:
        """Have a node read an input in a layout: as it is, or from a copy that all readers share."""
        source = node.input_value(place)
        if self._layout(source) != layout:
            node.input(place).replace_source_output(self._copy(source, layout))

    def _copy(self, source: Any, layout: str) -> Any:
        key = value_of(source), layout
        if key not in self._copies:
            self._copies[key] = self._make_copy(source, layout)
        return self._copies[key]

    def _make_copy(self, source: Any, layout: str) -> Any:
        """Gather what a layout has, from the layout that has it in few steps: those of one kind of tokens.

        UNPACK ↔ PACK → FIRST, PACK ↔ SEGMENTS → UNPACK, FIRST ↔ FIRST_SEGMENTS
        """
        now = self._layout(source)
        if now == UNPACK and layout == PACK:
            return self._gather(self._in_a_row(source), PACK)
        if (index := _FROM_SEGMENTS.get((now, layout))) is not None:
            gathered = self._gather(self._in_a_row(source), index)
        else:
            needed = FIRST if layout == FIRST_SEGMENTS else PACK
            gathered = self._gather(source if now == needed else self._copy(source, needed), layout)
        return gathered if layout in (PACK, FIRST) else _without_first_axis(gathered)

    def _in_a_row(self, source: Any) -> Any:
        """Return a value's tokens as [1, N, H]."""
        shape = ops.constant([1, -1, self._widths[value_of(source)]], np.int64)
        return ops.reshape(source, shape, special_zero=False).output(0)

    def _gather(self, source: Any, name: str, axis: int = 1) -> Any:
        if name not in self._inputs:
            self._inputs[name] = _input(name)
        return ops.gather(source, self._inputs[name], ops.constant(axis, np.int64)).output(0)

    def _pool(self, node: Any) -> None:
        """Have the readers of each row's first token read it from its new place: x[0, rows]."""
        read_instead(node, _without_first_axis(self._gather(node.input_value(0), ROWS)).get_node())

    def _layout(self, source: Any) -> str:
        return self._layouts.get(value_of(source), UNPACK)

    def _has_tokens(self, source: Any) -> bool:
        return value_of(source) in self._widths

    def _is_product(self, node: Any) -> bool:
        """Whether it is tokens @ W."""
        of_tokens = node.get_type_name() == "MatMul" and self._has_tokens(node.input_value(0))
        return of_tokens and is_constant(node.input_value(1)) and not node.get_attributes()["transpose_a"]

    def _is_of_adapter(self, node: Any) -> bool:
        """Whether it is tokens @ table[group]."""
        if node.get_type_name() != "MatMul" or not self._has_tokens(node.input_value(0)):
            return False
        gather = node.input_value(1).get_node()
        return gather.get_type_name() == "Gather" and bool(gather.input_value(0).get_names() & self._tables)

    def _is_by_token(self, node: Any) -> bool:
        kind, sources = node.get_type_name(), node.input_values()
        if (node.get_name(), 0) not in self._widths:
            return False
        if kind in _BY_VECTOR:
            return self._has_tokens(sources[0]) and _numbers(sources[1]) in ([2], [-1])
        return kind in _BY_ELEMENT and all(self._has_tokens(s) or same_for_all(s) for s in sources)

    def _is_pooling(self, node: Any) -> bool:
        """Whether it is x[:, 0] of tokens x."""
        if node.get_type_name() != "Gather" or not self._has_tokens(node.input_value(0)):
            return False
        index, axis = node.input_value(1), node.input_value(2)
        return not index.get_partial_shape() and _numbers(index) == [0] and _numbers(axis) == [1]

    def _only_for_pooling(self) -> set[str]:
        """Return the names of nodes computed token by token that pooling alone reads, or others of them."""
        pooling = {node.get_name() for node in self._nodes if self._is_pooling(node)}
        for_pooling = set(pooling)
        for node in reversed(self._nodes):
            if self._is_product(node) or self._is_by_token(node) or self._is_of_adapter(node):
                readers = {reader.get_name() for reader in _readers(node)}
                if readers and readers <= for_pooling:
                    for_pooling.add(node.get_name())
        return for_pooling - pooling

    def _stays_packed(self, node: Any) -> bool:
        """Whether a node's tokens are packed, or some are and what reads it can be packed too."""
        if not self._is_by_token(node):
            return False
        sources = [source for source in node.input_values() if self._has_tokens(source)]
        packed = [self._layout(source) == PACK for source in sources]
        if all(p or (value_of(s), PACK) in self._copies for p, s in zip(packed, sources, strict=True)):
            return any(packed)
        return any(packed) and any(self._is_product(reader) or self._is_by_token(reader) for reader in _readers(node))


def read_instead(node: Any, other: Any) -> None:
    """Have the readers of a node's output read another's, which gets the names of the output."""
    other.output(0).set_names(node.output(0).get_names())
    for target in node.output(0).get_target_inputs():
        target.replace_source_output(other.output(0))


def _input(name: str) -> Any:
    shape = [-1, -1] if name in _OF_TWO_AXES else [-1]
    parameter = ops.parameter(shape, np.int32, name=name)
    parameter.output(0).set_names({name})
    return parameter


def _without_first_axis(value: Any) -> Any:
    return ops.squeeze(value, ops.constant([0], np.int64)).output(0)


def value_of(source: Any) -> Value:
    return source.get_node().get_name(), source.get_index()


def _readers(node: Any) -> Iterator[Any]:
    return (target.get_node() for target in node.output(0).get_target_inputs())


def _values_of_tokens(model: openvino.Model, max_tokens: int) -> Iterator[tuple[Value, int]]:
    """Yield the values of shape [B, S, H] with their H, found by giving B and S sizes of their own for a moment."""
    free = {parameter.get_any_name(): parameter.get_partial_shape() for parameter in model.inputs}
    tokens = (names.INPUT_IDS, names.ATTENTION_MASK, names.TOKEN_TYPE_IDS)
    probe = [_PROBE_ROWS, max_tokens]
    model.reshape({**free, **{name: openvino.PartialShape(probe) for name in tokens if name in free}})
    for node in model.get_ordered_ops():
        for place in range(node.get_output_size()):
            shape = node.get_output_partial_shape(place)
            sizes = list(shape.to_shape()) if shape.is_static else []
            if len(sizes) == 3 and sizes[:2] == probe:
                yield (node.get_name(), place), sizes[2]
    model.reshape(free)


def is_constant(source: Any) -> bool:
    return bool(source.get_node().get_type_name() == "Constant")


def same_for_all(source: Any) -> bool:
    """Whether it is a constant that all tokens meet alike."""
    return is_constant(source) and all(size == 1 for size in list(source.get_shape())[:-1])


def _numbers(source: Any) -> list[int]:
    """Return the elements of a constant, none of anything else."""
    return [int(number) for number in source.get_node().get_data().ravel()] if is_constant(source) else []
