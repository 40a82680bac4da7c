"""Tolerances of a GPU's precisions: no family is refused wrongly, a wrong product is refused in each."""

from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest

from emulated import EMULATED, emulated
from families import FAMILIES
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.runners.choose import REFERENCE
from scoremux_engine.runners.expected import distances, expected_outputs


@pytest.mark.parametrize(
    ("family", "step"), [("qwen3", 12), *(pytest.param(name, 1, marks=pytest.mark.nightly) for name in FAMILIES)]
)
def test_rounding_is_no_wrong_product(
    exported_family: Callable[[str], Path], family: str, step: int, tmp_path: Path
) -> None:
    """One product in `step` is made wrong."""
    backbone = Backbone.open(exported_family(family) / "backbone" / "1")
    backbone.measured = {**backbone.measured, **expected_outputs(backbone, REFERENCE.make(backbone))}
    for precision in EMULATED:
        (right,) = distances(backbone, emulated(backbone, precision, tmp_path))
        assert 1e-6 < right.farthest <= right.allowed, precision
        refused, tried, farthest = 0, 0, 0.0
        with suppress(IndexError):
            for product in count(0, step):
                (wrong,) = distances(backbone, emulated(backbone, precision, tmp_path, product))
                refused, tried, farthest = refused + wrong.is_too_far, tried + 1, max(farthest, wrong.farthest)
        print(f"{family} {precision} {right}; wrong: {refused} of {tried}, at most {farthest:.1e}")
        assert refused, precision
