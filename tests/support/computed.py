"""Which runners and precisions the tests can take: those that this processor computes."""

from typing import Any

import pytest

from scoremux_engine.runners.choose import ON_CPU, RunnerChoice
from scoremux_engine.runners.precisions import PRECISIONS, is_computed


def computed_precisions() -> list[str]:
    """Return OpenVINO's precisions that this processor computes."""
    return [precision for precision in PRECISIONS if is_computed(precision)]


def each_precision() -> list[Any]:
    """Return a parameter for each of them; bfloat16, which `computed_runners` meet too, is for `make nightly`."""
    marks = {"bfloat16": pytest.mark.nightly}
    return [pytest.param(precision, marks=marks.get(precision, ())) for precision in computed_precisions()]


def computed_runners() -> dict[str, RunnerChoice]:
    """Return the runners that work on this processor's cores, by name and precision."""
    return {f"{c.name} {c.precision}": c for c in ON_CPU if c.name != "openvino" or is_computed(c.precision)}


def each_runner() -> list[Any]:
    """Return a parameter for each of them; those that a test in all runners computes too are for `make nightly`."""
    quick = ("openvino float32", "openvino int8")
    return [pytest.param(name, marks=() if name in quick else pytest.mark.nightly) for name in computed_runners()]
