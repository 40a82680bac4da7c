"""What OpenVINO keeps for every shape of a micro-batch does not add up without end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from computed import computed_precisions
from making import ROOT

SHAPES = """
import sys
from pathlib import Path

import numpy as np

import psutil
from bits import random_tables
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.runners.openvino import OpenVinoRunner
from scoremux_engine.runners.runner import RowInputs

backbone = Backbone.open(Path(sys.argv[1]))
runner, tables = OpenVinoRunner(backbone, sys.argv[2], threads=1), random_tables(backbone.spec, groups=2)
shapes = [(rows, tokens) for rows in range(1, 33) for tokens in range(8, 65, 2)]
held = [psutil.Process().memory_info().rss]
for part in range(3):
    for rows, tokens in shapes[part::3]:
        ones = np.ones((rows, tokens), np.int64)
        runner.run(RowInputs(ones, ones, np.zeros(rows, np.int64), np.zeros_like(ones)), tables)
    held.append(psutil.Process().memory_info().rss)
print(*held)
"""


@pytest.mark.parametrize("precision", [p for p in computed_precisions() if p != "int8"])
def test_memory_stops_growing_with_the_shapes_seen(exported: Path, precision: str) -> None:
    command = [sys.executable, "-c", SHAPES, str(exported / "backbone" / "1"), precision]
    run = subprocess.run(command, cwd=ROOT / "tests" / "support", stdout=subprocess.PIPE, text=True, check=True)
    start, first, second, third = map(int, run.stdout.split())
    if first - start < 50e6:
        pytest.skip("shapes cost nothing on this processor")
    assert third - first < 0.5 * (first - start), [start, first, second, third]
