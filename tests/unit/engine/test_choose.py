"""Which runner is made, and that nothing is replaced silently."""

from __future__ import annotations

import onnxruntime
import pytest

from scoremux_engine.errors import RunnerError
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.runners import precisions
from scoremux_engine.runners.choose import RunnerChoice
from scoremux_engine.runners.openvino import OpenVinoRunner


def test_an_unknown_runner_is_refused_with_the_names_there_are(backbone: Backbone) -> None:
    with pytest.raises(RunnerError, match="'pytorch'; there are onnxruntime, openvino"):
        RunnerChoice("pytorch").make(backbone)


def test_an_unknown_precision_is_refused(backbone: Backbone) -> None:
    with pytest.raises(RunnerError, match="precision is 'int4'"):
        RunnerChoice("openvino", precision="int4").make(backbone)


def test_onnxruntime_has_no_other_precision(backbone: Backbone) -> None:
    with pytest.raises(RunnerError, match="float32 only, not int8"):
        RunnerChoice("onnxruntime", precision="int8").make(backbone)


@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_hardware_that_is_absent_is_said_and_never_replaced(backbone: Backbone, device: str) -> None:
    if len(onnxruntime.get_available_providers()) > 2:
        pytest.skip("this onnxruntime has GPU providers")
    with pytest.raises(RunnerError, match=r"ExecutionProvider; .*pip install 'scoremux\[gpu\]'"):
        RunnerChoice("onnxruntime", device=device).make(backbone)


@pytest.mark.parametrize(
    ("seconds", "precision"),
    [
        ({"float32": 1.0}, "float32"),
        ({"float32": 1.0, "bfloat16": 1.5}, "float32"),
        ({"float32": 1.0, "bfloat16": 0.99}, "float32"),
        ({"float32": 1.0, "bfloat16": 0.5}, "bfloat16"),
    ],
)
def test_auto_is_bfloat16_only_where_it_is_measured_to_be_faster(seconds: dict[str, float], precision: str) -> None:
    assert precisions.resolve("auto", lambda _: seconds) == precision


def test_a_precision_that_the_processor_does_not_compute_is_refused_with_those_it_does() -> None:
    with pytest.raises(RunnerError, match=r"does not compute in int8; it computes in float32, bfloat16$"):
        precisions.resolve("int8", lambda _: {"float32": 1.0, "bfloat16": 2.0})


@pytest.mark.parametrize(
    ("bfloat16", "rest"), [({}, "float32"), ({"bfloat16": 0.1}, "bfloat16"), ({"bfloat16": 7.0}, "bfloat16")]
)
def test_what_int8_leaves_does_not_depend_on_how_fast_it_is(bfloat16: dict[str, float], rest: str) -> None:
    assert precisions.beside_int8(lambda _: {"float32": 1.0, **bfloat16}) == rest


def test_a_runner_says_which_precision_auto_became(backbone: Backbone) -> None:
    assert OpenVinoRunner(backbone).precision in ("float32", "bfloat16")


def test_a_measurement_has_float32_and_takes_time() -> None:
    assert precisions.measure(("float32", "int8"))["float32"] > 0


def test_float32_has_nothing_to_be_compared_with_where_it_is_alone() -> None:
    assert precisions.measure(("float32",)) == {"float32": 0.0}
