"""The command `scoremux` of an earlier release, from the repository's history."""

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from making import ROOT

COMMITS = {"0.1": "32a74ebc6450dcf8681ed7202ad8686815d57563"}


def install(version: str, folder: Path) -> None:
    """Build a release's wheel, and install it into an environment in `folder` that has the packages of this one."""
    commit, source = COMMITS[version], folder / "source"
    if subprocess.run(["git", "cat-file", "-e", f"{commit}^{{commit}}"], cwd=ROOT, capture_output=True).returncode:
        pytest.skip(f"the history lacks {commit[:8]}, which is {version}: git fetch --unshallow")
    source.mkdir(parents=True)
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, check=True, capture_output=True).stdout
    subprocess.run(["tar", "-x"], cwd=source, input=archive, check=True)
    wheel = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, source]
    pip = [sys.executable, "-m", "pip", "--quiet"]
    subprocess.run([*pip, *wheel], check=True)
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    (packages,) = (folder / "venv").glob("lib/python*/site-packages")
    subprocess.run([folder / "venv/bin/pip", "--quiet", "install", "--no-deps", *folder.glob("*.whl")], check=True)
    # Packages of the release come first; no .pth file of this environment is read, so none of today's code is found.
    (packages / "others.pth").write_text(f"{sysconfig.get_path('purelib')}\n")


def command(folder: Path) -> str:
    return str(folder / "venv/bin/scoremux")
