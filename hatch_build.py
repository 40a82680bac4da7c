"""Writes the commit into the wheel, for `scoremux --version`, `/readyz` and logs."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_FILE = "scoremux_files/commit"


class CommitHook(BuildHookInterface[Any]):
    """An editable installation asks git when it runs, and gets no file."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable" or self.target_name != "wheel":
            return
        self._folder = tempfile.TemporaryDirectory()
        path = Path(self._folder.name) / "commit"
        path.write_text(os.environ.get("SCOREMUX_COMMIT") or _commit(self.root), encoding="utf-8")
        build_data["force_include"][str(path)] = _FILE


def _commit(root: str) -> str:
    words = ["git", "-C", root, "rev-parse", "HEAD"]
    try:
        return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""
