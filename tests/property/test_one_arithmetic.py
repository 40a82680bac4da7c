"""OpenVINO's float32 has the same bits under AVX2 and AVX-512, and with caches of other sizes.

Where `qemu-x86_64` is installed, processors without AVX-512 are emulated; a limit of oneDNN bounds its kernels alone.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from arithmetic import digests, emulator
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.runners.arithmetic import PROBE
from scoremux_engine.runners.choose import RunnerChoice

MIXES = 14


@pytest.mark.parametrize("limit", ["AVX2", pytest.param("AVX512_CORE", marks=pytest.mark.nightly)])
@pytest.mark.parametrize("family", ["bert", "qwen3", pytest.param("gemma2", marks=pytest.mark.nightly)])
def test_float32_is_one_arithmetic(family: str, limit: str, exported_family: Callable[[str], Path]) -> None:
    """Gemma 2 has windows that slide and soft caps, too."""
    narrow, wide = (digests(exported_family(family) / "backbone" / "1", at, MIXES, 128) for at in (limit, ""))
    assert narrow == wide
    assert len(set(wide)) == MIXES


@pytest.mark.skipif(not emulator(), reason="there is no qemu-x86_64 (Debian's package qemu-user)")
def test_float32_of_an_emulated_processor_is_that_of_this_one(exported_family: Callable[[str], Path]) -> None:
    """`make nightly` tries all families, `make slow` other caches, too (`tests/slow/test_one_arithmetic.py`)."""
    if RunnerChoice().make(Backbone.open(PROBE)).arithmetic != "x86-f32":
        pytest.skip("this processor has an arithmetic of its own")
    backbone = exported_family("bert") / "backbone" / "1"
    here, there = (digests(backbone, "", 3, 64, within) for within in ((), emulator("EPYC-Milan")))
    assert here == there
