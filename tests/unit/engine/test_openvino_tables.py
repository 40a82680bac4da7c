"""OpenVINO reads tables where they lie: what a run costs does not depend on how many slots there are."""

from __future__ import annotations

from pathlib import Path

import pytest

from computed import computed_precisions
from scoremux_engine.runners.openvino import OpenVinoRunner
from scoremux_export.export_graph import export_backbone
from scoremux_export.opening.openable import Opening

READERS = {"Gather", "ShapeOf"}
"""Layers that read the rows they need, or none; any other takes all slots at every run."""


@pytest.mark.parametrize("precision", computed_precisions())
def test_no_layer_takes_a_whole_table(encoder: Path, tmp_path: Path, precision: str) -> None:
    backbone = export_backbone(str(encoder), Opening("query,value", dora=True, bias=True), tmp_path)
    runner = OpenVinoRunner(backbone, precision)
    graph = runner._idle.queue[0]._request.get_compiled_model().get_runtime_model()
    tables = {op.get_friendly_name(): op for op in graph.get_parameters()}
    assert set(backbone.spec.table_inputs) <= set(tables)
    for name in backbone.spec.table_inputs:
        readers = [target.get_node() for output in tables[name].outputs() for target in output.get_target_inputs()]
        assert {reader.get_rt_info()["layerType"].value for reader in readers} <= READERS, name
