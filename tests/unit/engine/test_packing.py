"""Packing: products with the backbone's weights see tokens and no padding; every place gets its own row's tokens."""

from __future__ import annotations

import numpy as np
import openvino
from hypothesis import given
from hypothesis import strategies as st

from scoremux_engine.model.backbone import Backbone
from scoremux_engine.runners.packing import FIRST, PACK, ROWS, STEP, UNPACK, pack_tokens, packed_feeds
from scoremux_engine.runners.runner import RowInputs


@given(st.lists(st.integers(1, 24), min_size=1, max_size=20), st.integers(0, 9))
def test_every_place_gets_its_own_token_and_padding_its_rows_last(lengths: list[int], room: int) -> None:
    size = max(lengths) + room
    mask = (np.arange(size) < np.array(lengths)[:, None]).astype(np.int64)
    feeds = packed_feeds(RowInputs(mask, mask, np.zeros(len(lengths), np.int64)))
    places = np.arange(mask.size).reshape(mask.shape)
    packed = places.ravel()[feeds[PACK]]
    assert len(packed) % STEP == len(feeds[FIRST]) % STEP == 0
    assert len(packed) - sum(lengths) < STEP
    expected = [[row[min(s, length - 1)] for s in range(size)] for row, length in zip(places, lengths, strict=True)]
    assert packed[feeds[UNPACK]].tolist() == expected
    assert packed[feeds[FIRST]][feeds[ROWS]].tolist() == places[:, 0].tolist()


def test_no_product_with_a_weight_reads_padding_and_the_last_layer_ends_with_what_the_head_reads(
    backbone: Backbone,
) -> None:
    model = openvino.Core().read_model(backbone.onnx)
    assert pack_tokens(model, backbone.spec.max_tokens) == {FIRST, PACK, ROWS, UNPACK}
    products = [op for op in model.get_ordered_ops() if op.get_type_name() == "MatMul" and _has_weight(op)]
    over_tokens = [op for op in products if len(op.get_input_partial_shape(0)) == 3]
    read = [_inputs_of(op) for op in over_tokens]
    # The last three: attention's output, and the two of the feed-forward block.
    assert read == [{PACK}] * (len(read) - 3) + [{FIRST}] * 3
    assert len(read) > 6


def _has_weight(product: openvino.Node) -> bool:
    return bool(product.input_value(1).get_node().get_type_name() == "Constant")


def _inputs_of(node: openvino.Node) -> set[str]:
    """Return which of the packing's inputs a product reads, through what is computed token by token before it."""
    source = node.input_value(0).get_node()
    while source.get_type_name() not in ("Parameter", "Gather"):
        source = source.input_value(0).get_node()
    return set(source.input_value(1).get_names())
