"""Every family's float32 in OpenVINO under AVX2 and AVX-512, up to 512 tokens."""

from __future__ import annotations

from pathlib import Path

import pytest

from arithmetic import LIMITS, digests, has_avx512
from families import FAMILIES, make_family
from proofs import Result, Scaled
from scoremux_export.export_graph import export_backbone
from scoremux_export.opening.openable import Opening

pytestmark = pytest.mark.skipif(not has_avx512(), reason="this processor has no AVX-512 to compare AVX2 with")


@pytest.mark.parametrize("family", FAMILIES)
def test_float32_of_a_family_is_one_arithmetic(family: str, tmp_path: Path, scaled: Scaled, result: Result) -> None:
    source, mixes = make_family(family, tmp_path / "source", max_position_embeddings=514), scaled(120)
    export_backbone(str(source), Opening(FAMILIES[family].sites, dora=True, bias=True), tmp_path)
    under = [digests(tmp_path / "backbone" / "1", limit, mixes, 512) for limit in LIMITS]
    other = sum(len({*bits}) > 1 for bits in zip(*under, strict=True))
    result(f"{family}, {mixes} mixes of ranks 1–256 and 8–512 tokens, AVX2 against AVX-512: other bits", str(other))
    assert other == 0
