"""The program HAProxy: where it is, and whether it takes a configuration."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from scoremux_server.errors import SetupError
from scoremux_server.front_door.complaints import sentences
from scoremux_server.processes import PROXY

NEEDED = (3, 0)
_PATIENCE_S = 30
_INSTALL = "apt-get install haproxy (3.0 or newer; Debian 13 has it, older releases at haproxy.debian.net)"


class Haproxy:
    """One haproxy on disk; path: folders to look in. Raises SetupError where there is none, or none that will do."""

    def __init__(self, path: str | None = None) -> None:
        # Debian puts it where only root looks.
        found = shutil.which(PROXY, path=path or os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"]))
        if found is None:
            raise SetupError(f"the front door needs HAProxy, which is not installed: {_INSTALL}")
        self.program = Path(found)
        about = self._run("-vv").stdout
        version = re.search(r"version (\d+)\.(\d+)", about)
        if version is None or (int(version[1]), int(version[2])) < NEEDED:
            raise SetupError(f"{found} is {version[0] if version else 'of no known version'}: {_INSTALL}")
        for feature in ("OPENSSL", "LUA"):
            if f"+{feature}" not in about:
                raise SetupError(f"{found} was built without {feature}: {_INSTALL}")

    def complaints(self, config: Path) -> list[str]:
        """Return what HAProxy refuses a configuration for: nothing, where it takes it."""
        checked = self._run("-c", "-f", str(config))
        if checked.returncode == 0:
            return []
        return sentences(checked.stderr) or [f"exit status {checked.returncode}"]

    def arguments(self, config: Path, master: Path) -> list[str]:
        """Return the argument vector of a master that takes commands at the socket `master`."""
        return [str(self.program), "-W", "-S", f"{master},mode,600", "-f", str(config)]

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(self.program), *arguments]
        try:
            return subprocess.run(
                command, capture_output=True, text=True, errors="replace", check=False, timeout=_PATIENCE_S
            )
        except subprocess.TimeoutExpired as error:
            raise SetupError(f"{self.program} {arguments[0]} did not end within {_PATIENCE_S} s") from error
