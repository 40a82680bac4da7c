"""Families of encoders and decoders through the same export: the proof against PEFT is part of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from computed import computed_precisions
from families import FAMILIES, make_family
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.model.tables import Tables
from scoremux_engine.runners.onnxruntime import OnnxRuntimeRunner
from scoremux_engine.runners.openvino import OpenVinoRunner
from scoremux_engine.runners.runner import Outputs, RowInputs
from scoremux_export.export_graph import export_backbone
from scoremux_export.opening.openable import Opening


class AllRunners(OnnxRuntimeRunner):
    """The reference; OpenVINO, which packs tokens, has to give the same, and in int8 nearly the same."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__(backbone, threads=1)
        self._packed = OpenVinoRunner(backbone, "float32", threads=1)
        assert self._packed.packed_inputs
        self._int8 = OpenVinoRunner(backbone, "int8", threads=1) if "int8" in computed_precisions() else self._packed

    def run(self, rows: RowInputs, tables: Tables, *, pooled: bool = False) -> Outputs:
        out = super().run(rows, tables, pooled=pooled)
        packed = self._packed.run(rows, tables, pooled=pooled)
        np.testing.assert_allclose(packed.logits, out.logits, atol=1e-4)
        off = self._int8.run(rows, tables).logits - out.logits
        assert np.sqrt((off**2).mean()) <= 0.1 * out.logits.std()
        return out


@pytest.mark.parametrize("name", FAMILIES)
def test_a_small_model_of_the_family_is_exported_and_proved(name: str, tmp_path: Path) -> None:
    family = FAMILIES[name]
    source, opening = make_family(name, tmp_path / "encoder"), Opening(family.sites, dora=True, bias=True)
    spec = export_backbone(str(source), opening, tmp_path / "repository", AllRunners).spec
    assert spec.sites
    assert bool(spec.prefix_layers) == family.decoder
    assert (spec.pad_id, spec.max_tokens) == (family.pad_id, family.max_tokens)
    assert spec.parity.rows > 10
    assert 0 < spec.parity.max_abs_logit_difference <= 1e-4
