"""The command `scoremux` of the release before, from the repository's history, and the files that it wrote."""

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from making import ROOT, Once

VERSION, _COMMIT = "0.1", "32a74ebc6450dcf8681ed7202ad8686815d57563"
FILES = ROOT / "tests/upgrade" / VERSION


def command(once: Once) -> str:
    """Return the path of its command."""
    return str(once(f"scoremux-{VERSION}", _install) / "venv/bin/scoremux")


def _install(folder: Path) -> None:
    """Build its wheel, and install it into an environment that has the packages of this one."""
    if subprocess.run(["git", "cat-file", "-e", f"{_COMMIT}^{{commit}}"], cwd=ROOT, capture_output=True).returncode:
        pytest.skip(f"the history lacks {_COMMIT[:8]}, which is {VERSION}: git fetch --unshallow")
    source = folder / "source"
    source.mkdir(parents=True)
    archive = subprocess.run(["git", "archive", _COMMIT], cwd=ROOT, check=True, capture_output=True).stdout
    subprocess.run(["tar", "-x"], cwd=source, input=archive, check=True)
    wheel = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, source]
    pip = [sys.executable, "-m", "pip", "--quiet"]
    subprocess.run([*pip, *wheel], check=True)
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    (packages,) = (folder / "venv").glob("lib/python*/site-packages")
    subprocess.run([folder / "venv/bin/pip", "--quiet", "install", "--no-deps", *folder.glob("*.whl")], check=True)
    # Packages of the release come first; no .pth file of this environment is read, so none of today's code is found.
    (packages / "others.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    # The release had the desk's commands itself: today's entry points are hidden by a distribution without any.
    hidden = packages / "scoremux_desk-0.dist-info"
    hidden.mkdir()
    (hidden / "METADATA").write_text("Metadata-Version: 2.1\nName: scoremux-desk\nVersion: 0\n")
