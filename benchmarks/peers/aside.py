"""Conversions in a process of their own, so that what they need does not count as a peer's memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.provenance import ROOT


def aside(function: str, folder: Path) -> None:
    """Call `module:function` with the folder. Raises CalledProcessError."""
    module, _, name = function.partition(":")
    code = f"import sys, pathlib; from {module} import {name}; {name}(pathlib.Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", code, str(folder)], cwd=ROOT, check=True)
