"""Every family's float32 in OpenVINO on an emulated processor with AVX2 and on this one, up to 512 tokens."""

from __future__ import annotations

from pathlib import Path

import pytest

from arithmetic import EMULATED, LIMITS, digests, emulator, has_avx512
from families import FAMILIES, make_family
from proofs import Result, Scaled
from scoremux_export.export_graph import export_backbone
from scoremux_export.opening.openable import Opening

pytestmark = [
    pytest.mark.skipif(not has_avx512(), reason="this processor has no AVX-512 to compare AVX2 with"),
    pytest.mark.skipif(not emulator(), reason="there is no qemu-x86_64 (Debian's package qemu-user)"),
]
PARTS = 4


@pytest.mark.parametrize("family", FAMILIES)
def test_float32_of_a_family_is_one_arithmetic(family: str, tmp_path: Path, scaled: Scaled, result: Result) -> None:
    source, mixes = make_family(family, tmp_path / "source", max_position_embeddings=514), scaled(30)
    export_backbone(str(source), Opening(FAMILIES[family].sites, dora=True, bias=True), tmp_path)
    other = sum(count_differences(tmp_path / "backbone" / "1", mixes, part) for part in range(PARTS))
    what = f"{family}, {PARTS * mixes} mixes of ranks 1–256 and 8–512 tokens, an emulated {EMULATED} and AVX-512"
    result(f"{what}: other bits", str(other))
    assert other == 0


def count_differences(backbone: Path, mixes: int, part: int) -> int:
    """Return how many mixes have other bits somewhere."""
    here = [digests(backbone, limit, mixes, 512, seed=part) for limit in LIMITS]
    there = digests(backbone, "", mixes, 512, emulator(), seed=part)
    return sum(len({*bits}) > 1 for bits in zip(*here, there, strict=True))
