"""int8: which products get constant scales, what rounding does, and when a processor's sums are not to be trusted."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
from openvino import opset13 as ops

from scoremux_engine.model.backbone import Backbone
from scoremux_engine.runners import precisions
from scoremux_engine.runners.int8 import int8_constant, measure_ranges, quantise, rounded
from scoremux_engine.runners.packing import pack_tokens

OPTIONS = precisions.options("float32")


def test_what_a_norm_gives_has_constant_scales_and_every_weight_over_tokens_is_int8(backbone: Backbone) -> None:
    assert quantised(backbone, norms=True) == {"q": True, "k": True, "v": True, "out": False, "up": True, "down": False}


def test_without_ranges_no_product_has_constant_scales(backbone: Backbone) -> None:
    assert set(quantised(backbone, norms=False).values()) == {False}


def quantised(backbone: Backbone, *, norms: bool) -> dict[str, bool]:
    """Return for the first layer's products whether they have constant scales; all over tokens have int8 weights."""
    model = openvino.Core().read_model(backbone.onnx)
    ranges = measure_ranges(model, backbone, OPTIONS) if norms else {}
    pack_tokens(model, backbone.spec.max_tokens)
    quantise(model, ranges)
    products = [op for op in model.get_ordered_ops() if op.get_type_name() == "MatMul"]
    assert not [op for op in products if len(op.get_input_partial_shape(0)) == 3 and kind(op, 1) == "Constant"]
    of_tokens = [
        op for op in products if kind(op, 1) == "Multiply" and kind(op.input_value(1).get_node(), 0) == "Convert"
    ]
    assert len(of_tokens) == 12
    assert {
        str(op.input_value(1).get_node().input_value(0).get_node().get_input_element_type(0)) for op in of_tokens
    } == {"<Type: 'int8_t'>"}
    names = ("q", "k", "v", "out", "up", "down")
    return {name: kind(op, 0) == "FakeQuantize" for name, op in zip(names, of_tokens, strict=False)}


def kind(node: Any, place: int) -> str:
    return str(node.input_value(place).get_node().get_type_name())


def test_ranges_are_the_same_whenever_they_are_measured(backbone: Backbone) -> None:
    def measured() -> list[Any]:
        return list(measure_ranges(openvino.Core().read_model(backbone.onnx), backbone, OPTIONS).values())

    assert len(measured()) == 5
    assert all((columns > 0).all() for columns in measured())
    assert [columns.tobytes() for columns in measured()] == [columns.tobytes() for columns in measured()]


def test_values_are_rounded_to_the_nearest_step_and_cut_to_the_largest() -> None:
    values = np.linspace(-3, 3, 1_001, dtype=np.float32)
    got = compute(lambda x: rounded(x, 2.0), values)
    steps = np.clip(values / 2 * 127, -128, 127)
    assert np.abs(got / 2 * 127 - steps).max() <= 0.5 + 1e-3
    assert len(np.unique(got)) == 256


def test_a_weight_is_off_by_half_a_step_of_its_own_output_at_most() -> None:
    draw = np.random.default_rng(3)
    rows = (draw.normal(0, 1, (40, 24)) * 10.0 ** draw.integers(-6, 6, (40, 1))).astype(np.float32)
    rows[7] = 0
    got = compute(lambda x: ops.add(x, int8_constant(rows)), np.zeros(1, np.float32))
    assert (np.abs(got - rows) <= np.abs(rows).max(axis=1, keepdims=True) / 127 * 0.501).all()


def compute(graph: Any, values: Any) -> Any:
    given = ops.parameter([-1], np.float32)
    model = openvino.Model([graph(given)], [given], "graph")
    return openvino.Core().compile_model(model, "CPU", OPTIONS)([values])[0]


@pytest.mark.parametrize(("step", "exact"), [("AVX512_CORE", "False"), ("AVX512_CORE_VNNI", "True")])
def test_without_vnni_sums_are_found_to_be_cut(step: str, exact: str) -> None:
    if "avx512_vnni" not in Path("/proc/cpuinfo").read_text(encoding="utf-8"):
        pytest.skip("this processor has no AVX-512 with VNNI to switch off")
    code = "from scoremux_engine.runners.precisions import adds_int8_exactly as exact; print(exact())"
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": step}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == exact
