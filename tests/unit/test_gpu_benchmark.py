"""The GPU benchmark where there is no GPU: it refuses, and its parts give rows on the CPU."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import gpu
from benchmarks.provenance import ROOT
from benchmarks.saf import SafRow
from scoremux_engine.backbone import Backbone


@pytest.fixture
def bench(encoder: Path, backbone: Backbone) -> gpu.Bench:
    runners, absent = gpu.find_runners(backbone, ("cpu", "cuda"))
    assert list(absent) == ["onnxruntime cuda"]
    rows = [SafRow(str(n), "t", "the host sends a packet " * (1 + n % 3), 0) for n in range(40)]
    return gpu.Bench(backbone, encoder, rows, runners, device="cpu", rounds=1)


@pytest.mark.skipif(gpu.card() is not None, reason="this machine has a CUDA card")
def test_without_a_card_it_says_so_in_one_sentence_and_exits_with_its_own_status(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", "--data", str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert ended.returncode == gpu.NO_CARD
    assert ended.stderr.count(".") == 1 and "no CUDA GPU" in ended.stderr
    assert ended.stdout == ""


def test_a_part_that_there_is_not_is_refused(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", "--data", str(tmp_path), "--parts", "poetry"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 2 and "poetry" in ended.stderr


def test_every_part_gives_a_row_that_json_takes(bench: gpu.Bench) -> None:
    served = gpu.paper(bench)
    assert served["ms_a_row"].keys() == {"27 full models, switched", "shared backbone"}
    assert served["weight_bytes"]["27 full models"] > 5 * served["weight_bytes"]["shared backbone"]
    grown = gpu.growth(bench, {"tasks": (1, 27), "rank": (4,), "rows": (8, 64)})
    assert [point["value"] for point in grown["points"]["tasks"]] == [1, 27]
    assert [point["value"] for point in grown["points"]["length"]] == [8, 32]
    reached = gpu.limit(dataclasses.replace(bench, rounds=2))
    assert reached["peak_per_s"].keys() == {"float32", "bfloat16"}
    for figures in (served, grown, reached):
        assert json.loads(json.dumps(figures)) == figures
