"""Families of encoders and decoders through the same export: the proof against PEFT is part of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from families import FAMILIES, make_family
from scoremux_export.backbone import export_backbone
from scoremux_export.opening import Opening


@pytest.mark.parametrize("name", FAMILIES)
def test_a_small_model_of_the_family_is_exported_and_proved(name: str, tmp_path: Path) -> None:
    family = FAMILIES[name]
    source = make_family(name, tmp_path / "encoder")
    spec = export_backbone(str(source), Opening(family.sites, dora=True, bias=True), tmp_path / "repository").spec
    assert spec.sites
    assert bool(spec.prefix_layers) == family.decoder
    assert (spec.pad_id, spec.max_tokens) == (family.pad_id, family.max_tokens)
    assert spec.parity.rows > 10
    assert 0 < spec.parity.max_abs_logit_difference <= 1e-4
