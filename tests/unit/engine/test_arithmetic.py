"""An arithmetic is named by what the probe gives: each cause of other bits known so far gives another name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from openvino import opset13 as ops

from scoremux_engine.runners import portable_math
from scoremux_engine.runners.arithmetic import name_of, probe_digest, read_record
from scoremux_engine.runners.openvino import OpenVinoRunner


def own_softmax(node: Any, _masks: object) -> None:
    """Leave OpenVINO's own in place."""


def own_norm(node: Any) -> Any:
    return ops.mvn(node.input_value(0), ops.constant([-1], np.int64), True, node.get_attributes()["eps"], "inside_sqrt")


def own_mean(x: Any) -> Any:
    return ops.reduce_mean(x, ops.constant([-1], np.int64), keep_dims=True)


def own_gelu(x: Any) -> Any:
    return ops.gelu(x, "erf")


@pytest.fixture(scope="module")
def digest() -> str:
    return float32_digest()


def float32_digest() -> str:
    return probe_digest(lambda backbone: OpenVinoRunner(backbone, "float32", threads=1, streams=1))


@pytest.mark.parametrize(
    ("part", "other"),
    [
        ("_gelu", own_gelu),
        ("_replace_softmax", own_softmax),
        ("_normalised", own_norm),
        ("_mean", own_mean),
        ("PIECE", 256),  # as where the L2 cache has 256 KiB
    ],
)
def test_probe_sees_each_cause(
    part: str, other: Callable[..., Any], digest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if part == "PIECE" and name_of("x86-f32", digest) != "x86-f32":
        pytest.skip("this processor may add in blocks of 256 itself")
    monkeypatch.setattr(portable_math, part, other)
    assert float32_digest() != digest


def test_same_process_gets_the_same_digest_again(digest: str) -> None:
    assert float32_digest() == digest


def test_an_unknown_digest_cannot_share_a_name() -> None:
    recorded = read_record().arithmetics
    assert len({a.name for a in recorded}) == len({a.digest for a in recorded}) == len(recorded)
    for known in recorded:
        assert name_of("x86-f32", known.digest) == known.name
    assert name_of("x86-f32", "3fa1c2" + "0" * 58) == "x86-f32-3fa1c2"
    assert "x86-f32" in {a.name for a in recorded}
