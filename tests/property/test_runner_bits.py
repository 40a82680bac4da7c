"""One response in random mixes, every runner and precision: identical bits."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from benchmarks.bit_stability import count_changed
from benchmarks.workload import RUNNERS
from making import WORDS, make_adapter
from scoremux_engine import Engine
from scoremux_engine.store.store import Store
from scoremux_export.backbone import export_backbone
from scoremux_export.opening import Opening


@pytest.mark.parametrize("name", RUNNERS)
def test_a_response_keeps_its_bits_in_random_mixes(small_repository: Path, name: str) -> None:
    draw = random.Random(27)
    fillers = [" ".join(draw.choices(WORDS, k=draw.randint(0, 60))) for _ in range(200)]
    engine = Engine.open(small_repository, runner=RUNNERS[name])
    assert count_changed(engine, fillers, mixes=200, most_rows=200) == 0


def test_int8_keeps_its_bits_where_the_pooler_is_a_site(encoder: Path, tmp_path: Path) -> None:
    backbone = export_backbone(str(encoder), Opening("all-linear"), tmp_path)
    folders = [make_adapter(tmp_path / task, backbone.spec, task, seed=n) for n, task in enumerate(("t-1", "t-2"))]
    Store(tmp_path / "store").add(folders, backbone)
    engine = Engine.open(tmp_path, runner=RUNNERS["openvino int8"])
    fillers = [" ".join(WORDS[:n]) for n in range(40)]
    assert count_changed(engine, fillers, mixes=100, most_rows=12) == 0
