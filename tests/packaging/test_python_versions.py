"""Python 3.13: reports and the client run there, and what needs numpy 1 is refused in one sentence."""

import os
import subprocess
from functools import cache
from pathlib import Path

import pytest

from making import ROOT

PLACES = (*os.environ.get("PATH", "").split(os.pathsep), *map(str, Path.home().glob(".pyenv/versions/3.13.*/bin")))


@cache
def python313() -> str:
    """Return a CPython 3.13 of this machine; shims of another version end with an error."""
    asked = "import sys; sys.exit(sys.version_info[:2] != (3, 13))"
    programs = (str(Path(place) / "python3.13") for place in PLACES)
    there = (
        p for p in programs if Path(p).exists() and not subprocess.run([p, "-c", asked], capture_output=True).returncode
    )
    return next(there, "")


pytestmark = pytest.mark.skipif(not python313(), reason="no CPython 3.13 here")


def test_make_takes_no_python_313(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    for name, program in (("python3", python313()), ("sh", "/bin/sh")):
        (tmp_path / "bin" / name).symlink_to(program)
    words = [f"VENV={tmp_path}/venv", f"{tmp_path}/venv/bin/python"]
    ended = subprocess.run(
        ["/usr/bin/make", *words], cwd=ROOT, env={"PATH": str(tmp_path / "bin")}, capture_output=True, text=True
    )
    assert ended.returncode == 2 and "no Python 3.10 to 3.12 in PATH" in ended.stdout
    assert not (tmp_path / "venv").exists()


@pytest.mark.nightly
def test_reports_run_on_python_313_and_servers_are_refused(tmp_path: Path) -> None:
    subprocess.run([python313(), "-m", "venv", tmp_path / "venv"], check=True)
    pip = [tmp_path / "venv/bin/pip", "install", "--quiet", "--disable-pip-version-check"]
    refused = subprocess.run([*pip, f"{ROOT}[serve]"], capture_output=True, text=True)
    assert refused.returncode and "nvidia-pytriton==0+this.needs.python.3.10.to.3.12" in refused.stderr.splitlines()[-1]
    subprocess.run([*pip, f"{ROOT}[assess]"], check=True)
    rows = "".join(f"{n},t,{n % 3},OK\n" for n in range(60))
    (tmp_path / "scored.csv").write_text(f"id,task,level,status\n{rows}")
    evaluated = subprocess.run(
        [tmp_path / "venv/bin/scoremux", "evaluate", "scored.csv", "--truth", "scored.csv"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert evaluated.returncode == 0 and "60" in evaluated.stdout, evaluated.stderr
    code = "import scoremux_client, doctest, scoremux_client.client as m; assert not doctest.testmod(m).failed"
    subprocess.run([tmp_path / "venv/bin/python", "-c", code], check=True)
