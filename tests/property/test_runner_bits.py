"""int8 where products over responses, which may have a single row, are sites too."""

from __future__ import annotations

from pathlib import Path

import pytest

from computed import computed_runners
from making import make_adapter
from scoremux_engine import Engine
from scoremux_engine.selftest import run_selftest
from scoremux_engine.store.store import Store
from scoremux_export.export_graph import export_backbone
from scoremux_export.opening.openable import Opening


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
    assert run_selftest(Engine.open(repository, runner=computed_runners()[name]), mixes=100).changed is None
