"""Which runner is made, and that nothing is replaced silently."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
import pytest

from scoremux_engine.backbone import Backbone
from scoremux_engine.errors import RunnerError
from scoremux_engine.runners.choose import RunnerChoice
from scoremux_engine.runners.openvino import OpenVinoRunner, resolve


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
    ("flags", "precision"),
    [("fpu avx2 avx512f", "float32"), ("fpu avx512_bf16", "bfloat16"), ("amx_tile amx_bf16", "bfloat16")],
)
def test_auto_takes_bfloat16_where_the_processor_computes_it(tmp_path: Path, flags: str, precision: str) -> None:
    (tmp_path / "cpuinfo").write_text(f"flags\t\t: {flags}\n")
    assert resolve("auto", tmp_path / "cpuinfo") == precision


def test_a_runner_says_which_precision_auto_became(backbone: Backbone) -> None:
    assert OpenVinoRunner(backbone).precision == resolve("auto")
