"""Levels → the wire's output tensors, where an adapter gives no finite logits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from making import adapter_tensors, make_adapter
from scoremux_client import Status
from scoremux_engine import Engine
from scoremux_engine.backbone import Backbone
from scoremux_engine.store.store import Store


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
