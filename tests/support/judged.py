"""The judge against PEFT, both in float64."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from families import FAMILIES, make_family
from scoremux_engine.judge.float64_runner import Float64Runner
from scoremux_export.export_graph import export_backbone
from scoremux_export.opening.classifier import Classifier
from scoremux_export.opening.openable import Opening
from scoremux_export.opening.parity import prove


@contextmanager
def float64_throughout() -> Iterator[None]:
    """Let transformers compute in float64 what it computes in float32 whatever a model's type, such as norms."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "float", torch.Tensor.double)
        patch.setattr(torch, "float32", torch.float64)
        patch.setattr(torch, "float", torch.float64)
        yield


def difference_from_peft(family: str, folder: Path) -> float:
    """Return max |Δlogit| between the judge and PEFT, both in float64: adapters of four kinds, and prefixes."""
    source = make_family(family, folder / "source")
    opening = Opening(FAMILIES[family].sites, dora=True, bias=True)
    backbone = export_backbone(str(source), opening, folder)
    model = Classifier.open(str(source)).model
    with float64_throughout():
        return prove(model, backbone, Float64Runner(backbone), opening).max_abs_logit_difference
