"""TensorRT plans of every family that exports, in every precision, for four compute capabilities, without a GPU."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.plan_layers import read_layers
from families import FAMILIES, make_family
from scoremux_engine.model.plan import PLAN_LAYERS
from scoremux_export.export_graph import export_backbone
from scoremux_export.opening.openable import Opening
from scoremux_export.plans.build_plan import PRECISIONS, PlanRanges, export_plan

pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")

NAMES = {"float32": "Float", "float16": "Half", "bfloat16": "BFloat16"}


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_becomes_a_plan_in_every_precision(name: str, tmp_path: Path) -> None:
    source = make_family(name, tmp_path / "model")
    opening = Opening(FAMILIES[name].sites, dora=True, bias=True)
    backbone = export_backbone(str(source), opening, tmp_path / "repository", max_tokens=16)
    for precision in PRECISIONS:
        made = export_plan(tmp_path / "repository", precision, PlanRanges(groups=32, rank=16), runtime="tensorrt-rtx")
        assert made.capabilities == ("8.0", "8.6", "8.9", "12.0")
        assert [(p.tokens, p.rank) for p in made.profiles] == [(8, 8), (16, 8), (8, 16), (16, 16)]
        layers = read_layers((backbone.folder / PLAN_LAYERS).read_text())
        products = [layer for layer in layers if layer.is_product]
        wide = [layer for layer in products if layer.in_float32]
        print(f"{name} {precision}: {len(products)} products, {len(wide)} in float32, {made.parity}")
        assert {layer.gives for layer in products} <= {("Float",), (NAMES[precision],)}
        if made.parity is not None:
            # The head's, and DeBERTa's products of relative positions with weights.
            assert len(wide) <= 3 * len(made.profiles)
            assert made.parity.max_abs_logit_difference < {"float16": 1e-2, "bfloat16": 1e-1}[precision]
            assert made.parity.levels_changed <= 3
