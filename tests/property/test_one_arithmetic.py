"""OpenVINO's float32 has the same bits under AVX2 and AVX-512, and with caches of other sizes.

Where `qemu-x86_64` is installed, processors without AVX-512 are emulated; a limit of oneDNN bounds its kernels alone.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from arithmetic import LIMITS, digests, emulator
from families import FAMILIES, make_family
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.runners.arithmetic import PROBE
from scoremux_engine.runners.choose import RunnerChoice
from scoremux_export.export_graph import export_backbone
from scoremux_export.opening.openable import Opening

MIXES = 14


def test_float32_of_an_encoder_is_one_arithmetic(exported: Path) -> None:
    under = [digests(exported / "backbone" / "1", limit, MIXES, 64) for limit in LIMITS]
    assert under[0] == under[1] == under[2]
    assert len(set(under[0])) == MIXES


def test_float32_of_a_decoder_is_one_arithmetic(tmp_path: Path) -> None:
    """Gemma 2 has norms by root mean squares, rotary embeddings, windows that slide and soft caps."""
    source = make_family("gemma2", tmp_path / "source", max_position_embeddings=130)
    export_backbone(str(source), Opening(FAMILIES["gemma2"].sites, dora=True, bias=True), tmp_path)
    narrow, wide = (digests(tmp_path / "backbone" / "1", limit, MIXES, 128) for limit in ("AVX2", ""))
    assert narrow == wide


@pytest.mark.skipif(not emulator(), reason="there is no qemu-x86_64 (Debian's package qemu-user)")
@pytest.mark.parametrize(("family", "processor"), [("bert", "EPYC-Milan"), ("gemma2", "Haswell")])
def test_float32_of_an_emulated_processor_is_that_of_this_one(family: str, processor: str, tmp_path: Path) -> None:
    if RunnerChoice().make(Backbone.open(PROBE)).arithmetic != "x86-f32":
        pytest.skip("this processor has an arithmetic of its own")
    source = make_family(family, tmp_path / "source", max_position_embeddings=130, intermediate_size=1536)
    export_backbone(str(source), Opening(FAMILIES[family].sites, dora=True, bias=True), tmp_path)
    here, there = (digests(tmp_path / "backbone" / "1", "", 3, 64, within) for within in ((), emulator(processor)))
    assert here == there
