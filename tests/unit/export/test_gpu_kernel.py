"""The Triton kernel of `benchmarks/gpu.py`, interpreted on the CPU, against the products that it replaces."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest

from making import ROOT


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="the package triton is not installed")
def test_the_grouped_product_and_a_whole_encoder_agree_with_gathered_and_merged_weights() -> None:
    command = [sys.executable, "benchmarks/gpu.py", "--check"]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert float(ran.stdout.split("encoder: off by ")[1]) < 1e-5
