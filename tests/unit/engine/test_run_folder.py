"""What a run keeps in its folder for the next stub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scoremux_engine import Engine
from scoremux_engine.errors import RunnerError
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.runners.onnxruntime import OnnxRuntimeRunner
from scoremux_engine.runners.runner import Outputs
from scoremux_engine.store.store import Store
from scoremux_engine.triton.run_folder import RunFolder


class Leaky(OnnxRuntimeRunner):
    """Moves the last bit of the logits of rows that share a micro-batch."""

    def run(self, *args: Any, **options: Any) -> Outputs:
        out = super().run(*args, **options)
        return out if len(out.logits) == 1 else Outputs(np.nextafter(out.logits, np.float32(9)))


def test_a_changed_bit_refuses_to_serve_in_a_sentence(small_repository: Path, tmp_path: Path) -> None:
    backbone = Backbone.open(small_repository / "backbone" / "1")
    engine = Engine(backbone, Store(small_repository / "store"), Leaky(backbone))
    for folder in (RunFolder(None), RunFolder(tmp_path)):
        with pytest.raises(RunnerError, match=r"bits are not stable on this machine: .*; selftest=off serves"):
            folder.test(engine)
    assert list(tmp_path.iterdir()) == []


def test_a_run_is_tested_once(small_repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, folder = Engine.open(small_repository), RunFolder(tmp_path)
    folder.test(engine)
    monkeypatch.setattr(Engine, "logits", lambda *_: pytest.fail("tested again"))
    RunFolder(tmp_path).test(engine)


def test_without_a_folder_nothing_is_kept() -> None:
    folder = RunFolder(None)
    assert folder.in_flight(2) is None
