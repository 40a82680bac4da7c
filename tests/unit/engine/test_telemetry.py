"""ONNX Runtime reports to nobody."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from scoremux_server.triton.installation import Installation

PROGRAM = """
import os, sys, time
from pathlib import Path
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.runners.onnxruntime import OnnxRuntimeRunner
OnnxRuntimeRunner(Backbone.open(Path(sys.argv[1])))
time.sleep(1)
files = (f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd"))
print([link for file in files if os.path.islink(file) and (link := os.readlink(file)).startswith("socket")])
"""


def test_tritons_backends_are_told_not_to() -> None:
    assert Installation.find().environment({})["ORT_DISABLE_TELEMETRY"] == "1"


def test_the_runner_opens_no_connection_and_writes_no_session(small_repository: Path, tmp_path: Path) -> None:
    variables = {**os.environ, "TMPDIR": str(tmp_path), "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    variables.pop("ORT_DISABLE_TELEMETRY", None)
    command = [sys.executable, "-c", PROGRAM, str(small_repository / "backbone" / "1")]
    ran = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout == "[]\n"
    assert list(tmp_path.iterdir()) == []
