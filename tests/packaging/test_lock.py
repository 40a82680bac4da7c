"""The lock files of images and extras: complete, hashed, and free of any one machine's paths and hosts."""

from __future__ import annotations

import re
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from making import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FOLDER = ROOT / "server_config" / "requirements"
LOCKS = {"cpu": 40, "gpu": 40, "build": 6, "cli": 25, "assess": 27, "review": 40}
"""Every lock, with the fewest packages that it can be complete with."""
EXTRAS = {"cpu": "serve", **{extra: extra for extra in ("gpu", "cli", "assess", "review")}}
PYTHONS = ("3.10", "3.11", "3.12")


def locked(lock: str) -> dict[str, list[tuple[Requirement, int]]]:
    """Return name → its pins with their number of hashes (one a marker)."""
    entries = re.split(r"\n(?=[a-z0-9])", (FOLDER / f"{lock}.txt").read_text(encoding="utf-8"))
    pins: dict[str, list[tuple[Requirement, int]]] = {}
    for entry in entries:
        pin = Requirement(entry.partition("\\")[0])
        pins.setdefault(pin.name.lower().replace("_", "-"), []).append((pin, len(re.findall(r"--hash=sha256:", entry))))
    return pins


def wanted(lock: str) -> list[Requirement]:
    """Return what pyproject.toml requires for an extra, without the bundled Triton, or for a build."""
    content = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project = content["project"]
    if lock == "build":
        return [Requirement(line) for line in content["build-system"]["requires"]]
    lines, extras = list(project["dependencies"]), [EXTRAS[lock]]
    while extras:
        required = project["optional-dependencies"][extras.pop()]
        extras += [line[len("scoremux[") : -1] for line in required if line.startswith("scoremux[")]
        lines += [line for line in required if not line.startswith(("nvidia-pytriton", "scoremux["))]
    return [Requirement(line) for line in lines]


@pytest.mark.parametrize("lock", LOCKS)
def test_every_requirement_is_pinned_to_a_version_that_it_allows(lock: str) -> None:
    pins = locked(lock)
    for python in PYTHONS:
        environment = {"python_version": python, "python_full_version": f"{python}.9", "sys_platform": "linux"}
        for requirement in wanted(lock):
            if requirement.marker and not requirement.marker.evaluate(environment):
                continue
            chosen = [
                pin for pin, _ in pins[requirement.name.lower()] if not pin.marker or pin.marker.evaluate(environment)
            ]
            assert len(chosen) == 1, (python, requirement.name)
            (version,) = [specifier.version for specifier in chosen[0].specifier]
            assert requirement.specifier.contains(version), (python, requirement, version)


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_is_exact_and_hashed(lock: str) -> None:
    pins = [one for several in locked(lock).values() for one in several]
    assert len(pins) >= LOCKS[lock]
    for pin, hashes in pins:
        assert [specifier.operator for specifier in pin.specifier] == ["=="], pin
        assert hashes >= 1, pin


@pytest.mark.parametrize("lock", LOCKS)
def test_what_pinned_packages_require_is_pinned(lock: str) -> None:
    pins, checked = locked(lock), 0
    for name in pins:
        with suppress(PackageNotFoundError):
            lines = requires(name) or []
            requirements = [Requirement(line) for line in lines]
            needed = {r.name.lower().replace("_", "-") for r in requirements if not r.marker or r.marker.evaluate()}
            assert needed - {"nvidia-pytriton"} <= pins.keys(), name
            checked += 1
    assert checked >= LOCKS[lock] // 2


def test_a_server_with_a_gpu_installs_the_default_runner_too() -> None:
    """`calibrate` and `Engine.open` take OpenVINO where no profile.toml says otherwise."""
    cpu, gpu = ({str(requirement) for requirement in wanted(lock)} for lock in ("cpu", "gpu"))
    assert cpu ^ gpu == {"onnxruntime>=1.20", "onnxruntime-gpu>=1.20"}


def test_what_the_lock_of_the_build_is_made_from_is_what_pyproject_says() -> None:
    lines = (FOLDER / "build.in").read_text(encoding="utf-8").splitlines()
    assert [Requirement(line) for line in lines if not line.startswith("#")] == wanted("build")


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.txt")), ids=lambda path: path.name)
def test_no_path_and_no_host_is_in_a_lock(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not re.findall(
        r"://|(?:^|\s)(?:-e|--index|--extra-index|--find-links|-i|-f)\b|(?:^|\s)/\w", text, re.MULTILINE
    )


def test_what_images_install_is_locked_by_make_lock() -> None:
    assert {path.stem for path in FOLDER.glob("*.txt")} == set(LOCKS)
    (recipe,) = re.findall(r"^lock:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert re.findall(r"^\t\$\(LOCK\) .*/(\w+)\.txt$", recipe, re.MULTILINE) == list(LOCKS)
