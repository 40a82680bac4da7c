"""Levels → the wire's output tensors, where an adapter gives no finite logits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from making import TASKS, adapter_tensors, make_adapter
from scoremux_client import Status
from scoremux_engine import Engine, PackageError
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.store.store import Store
from scoremux_export.verify_graph import KnownLevels, logits_of


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_logits_that_are_not_finite_are_no_score(own_repository: Path, backbone: Backbone, tmp_path: Path) -> None:
    tensors = adapter_tensors(backbone.spec, 4, 5, seed=1)
    name = "base_model.model.classifier.weight"
    tensors[name] = np.sign(tensors[name]) * np.float32(3e38)
    folder = make_adapter(tmp_path / "huge", backbone.spec, "huge", tensors=tensors)
    Store(own_repository / "store").add([folder], backbone)
    engine = Engine.open(own_repository)
    (alone,) = engine.score(["the router"], ["t-1"])
    neighbour, huge = engine.score(["the router", "the router"], ["t-1", "huge"])
    assert (huge.status, huge.level, huge.probabilities, huge.version) == (Status.NOT_FINITE, -1, (), "")
    assert neighbour == alone


def test_one_output_is_a_value_in_points_beside_tasks_of_any_levels(
    own_repository: Path, backbone: Backbone, tmp_path: Path
) -> None:
    points = [0, 0.25, 0.5, 2]
    tensors = adapter_tensors(backbone.spec, 4, 1, seed=3)
    folder = make_adapter(tmp_path / "v", backbone.spec, "v", tensors=tensors, task_json={"levels": points})
    Store(own_repository / "store").add([folder], backbone)
    engine = Engine.open(own_repository)
    texts = [f"the {word} is lost" for word in ("router", "packet", "bridge", "table", "tree", "window")]
    before = [engine.score(texts, [task] * len(texts)) for task in TASKS]
    tasks = ["v", *TASKS]
    mixed = engine.score([text for text in texts for _ in tasks], tasks * len(texts))
    assert [mixed[n :: len(tasks)] for n in range(1, len(tasks))] == before
    logits = engine.logits(texts, ["v"] * len(texts))
    assert np.isnan(logits[:, 1:]).all()
    for scored, value in zip(mixed[:: len(tasks)], logits[:, 0].tolist(), strict=True):
        assert scored.status is Status.OK
        assert scored.score == points[scored.level] == min(points, key=lambda point: (abs(point - value), point))
        assert scored.probabilities == ()
    by_distance = logits_of(engine, KnownLevels(texts, ["v"] * len(texts), [None] * len(texts)))
    assert np.nanargmax(by_distance, axis=1).tolist() == [scored.level for scored in mixed[:: len(tasks)]]


def test_a_head_with_other_outputs_than_levels_is_refused(backbone: Backbone, tmp_path: Path) -> None:
    folder = make_adapter(tmp_path / "t", backbone.spec, "t", levels=4, task_json={"levels": [0, 1, 2]})
    with pytest.raises(PackageError, match=r"classifier\.weight has shape \[4, 32\], expected \[3, 32\]"):
        Store(tmp_path / "store").add([folder], backbone)
