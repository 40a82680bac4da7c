"""What `scoremux serve --print-config` shows: the configurations and the command line, without starting anything."""

from __future__ import annotations

import shlex
import tempfile
from pathlib import Path

from scoremux_server.server import Server

RUN = "/tmp/scoremux-RUN"
"""Stands for the temporary folder of a start; KEY for its key, which is drawn anew each time."""


def rendered(server: Server) -> str:
    """Return every rendered config.pbtxt under its path, then tritonserver's command line."""
    with tempfile.TemporaryDirectory(prefix="scoremux-config-") as scratch:
        folder = Path(scratch)
        load, backends = server.prepare(folder)
        configs = sorted((folder / "models").glob("*/config.pbtxt"))
        parts = [f"# {path}\n{path.read_text(encoding='utf-8')}" for path in configs]
        words = server.arguments(folder, load, backends, key="KEY")
        parts.append("# command line\n" + " \\\n  ".join(shlex.quote(word) for word in words))
        return "\n".join(parts).replace(scratch, RUN)
