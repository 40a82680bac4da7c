"""Throw-away virtual environments, for peers whose requirements conflict with ours."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


class InstallError(Exception):
    """A peer's packages cannot be installed here; the message is pip's own last line."""


def python_with(requirements: Sequence[str], parent: Path, without: Sequence[str] = (), timeout_s: float = 900) -> Path:
    """Return a Python that has `requirements`, and everything else from this one.

    The environment lies in `parent`, named after the requirements, and is made once. What this Python has comes behind
    the environment's own packages: a version that a requirement brings wins, and torch is the same for all peers.
    without: packages that come along and cannot be loaded here, which go again.
    Raises InstallError.
    """
    if not requirements:
        return Path(sys.executable)
    folder = parent / hashlib.sha256("\n".join(requirements).encode()).hexdigest()[:12]
    python, finished = folder / "bin" / "python", folder / "finished"
    if finished.exists():
        return python
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
    site = next((folder / "lib").glob("python*/site-packages"))
    (site / "zz_parent.pth").write_text("\n".join(behind(sys.path)) + "\n", encoding="utf-8")
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        raise InstallError(f"pip took more than {timeout_s:.0f} s") from None
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise InstallError(errors[-1] if errors else f"pip ended with status {done.returncode}")
    if without:
        subprocess.run([str(python), "-m", "pip", "uninstall", "--quiet", "--yes", *without], check=True)
    finished.touch()
    return python


def behind(path: Sequence[str]) -> list[str]:
    """Return the folders of an import path that a child's own come before: all but the standard library's."""
    library = {str(Path(subprocess.__file__).parent), str(Path(subprocess.__file__).parent / "lib-dynload")}
    return [entry for entry in path if entry and Path(entry).is_dir() and entry not in library]
