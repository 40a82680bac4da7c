"""Runners: bits of new shapes on two streams at once, and where the pooler is a site."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest

from computed import computed_precisions, computed_runners
from making import make_adapter, make_encoder
from scoremux_engine import Engine
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.model.buckets import SizeClass
from scoremux_engine.model.tables import input_shapes, stack
from scoremux_engine.model.tokens import Tokens
from scoremux_engine.runners.openvino import OpenVinoRunner
from scoremux_engine.runners.runner import Floats, RowInputs
from scoremux_engine.scoring.computation import pad
from scoremux_engine.selftest import run_selftest
from scoremux_engine.store.store import Store
from scoremux_export.export_graph import export_backbone
from scoremux_export.opening.openable import Opening

SHAPES = 40


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    """One with a product followed by an activation over all tokens, of a usual width."""
    folder = tmp_path_factory.mktemp("wide")
    source = make_encoder(folder / "source", layers=2, width=384)
    return export_backbone(str(source), Opening("query,value"), folder / "repository")


@pytest.mark.parametrize("precision", computed_precisions())
def test_streams_that_meet_new_shapes_at_once_compute_the_same(backbone: Backbone, precision: str) -> None:
    runner, draw = OpenVinoRunner(backbone, precision, threads=2, streams=2), np.random.default_rng(0)
    size = SizeClass(8, 8)
    adapter = {name: draw.normal(0, 0.05, shape) for name, shape in input_shapes(backbone.spec, size).items()}
    tables, start = stack([adapter], backbone.spec, size), Barrier(2)

    def run(rows: RowInputs) -> Floats:
        start.wait()
        return runner.run(rows, tables).logits

    with ThreadPoolExecutor(2) as streams:
        for count in draw.permutation(np.arange(30, 30 + SHAPES)).tolist():
            tokens = [
                Tokens(draw.integers(5, 40, n).tolist(), [0] * n, False) for n in draw.integers(9, 17, count).tolist()
            ]
            rows = pad(tokens, np.zeros(count, np.int64), 16, backbone.spec)
            one, other = streams.map(run, [rows, rows])
            assert one.tobytes() == other.tobytes(), count


@pytest.fixture(scope="module")
def repository(encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with every Linear open, the pooler among them."""
    root = tmp_path_factory.mktemp("all-linear")
    backbone = export_backbone(str(encoder), Opening("all-linear"), root)
    folders = [make_adapter(root / task, backbone.spec, task, seed=n) for n, task in enumerate(("t-1", "t-2"))]
    Store(root / "store").add(folders, backbone)
    return root


@pytest.mark.parametrize("name", computed_runners())
def test_rows_keep_their_bits_where_the_pooler_is_a_site(repository: Path, name: str) -> None:
    assert run_selftest(Engine.open(repository, runner=computed_runners()[name]), mixes=40).changed is None
