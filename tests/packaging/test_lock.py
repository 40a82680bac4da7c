"""The lock files for deployments: complete, hashed, and free of any one machine's paths and hosts."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from making import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FOLDER = ROOT / "server_config" / "requirements"
EXTRAS = ("serve", "gpu")
PYTHONS = ("3.10", "3.11", "3.12")


def locked(extra: str) -> dict[str, list[tuple[Requirement, int]]]:
    """Return name → its pins with their number of hashes (one a marker)."""
    entries = re.split(r"\n(?=[a-z0-9])", (FOLDER / f"{extra}.txt").read_text(encoding="utf-8"))
    pins: dict[str, list[tuple[Requirement, int]]] = {}
    for entry in entries:
        pin = Requirement(entry.partition("\\")[0])
        pins.setdefault(pin.name.lower().replace("_", "-"), []).append((pin, len(re.findall(r"--hash=sha256:", entry))))
    return pins


def wanted(extra: str) -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [Requirement(line) for line in [*project["dependencies"], *project["optional-dependencies"][extra]]]


@pytest.mark.parametrize("extra", EXTRAS)
def test_every_requirement_of_the_extra_is_pinned_to_a_version_that_it_allows(extra: str) -> None:
    pins = locked(extra)
    for python in PYTHONS:
        environment = {"python_version": python, "python_full_version": f"{python}.9", "sys_platform": "linux"}
        for requirement in wanted(extra):
            if requirement.marker and not requirement.marker.evaluate(environment):
                continue
            chosen = [
                pin for pin, _ in pins[requirement.name.lower()] if not pin.marker or pin.marker.evaluate(environment)
            ]
            assert len(chosen) == 1, (python, requirement.name)
            (version,) = [specifier.version for specifier in chosen[0].specifier]
            assert requirement.specifier.contains(version), (python, requirement, version)


@pytest.mark.parametrize("extra", EXTRAS)
def test_every_pin_is_exact_and_hashed(extra: str) -> None:
    pins = [one for several in locked(extra).values() for one in several]
    assert len(pins) > 40
    for pin, hashes in pins:
        assert [specifier.operator for specifier in pin.specifier] == ["=="], pin
        assert hashes >= 1, pin


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.txt")), ids=lambda path: path.name)
def test_no_path_and_no_host_is_in_a_lock(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not re.findall(
        r"://|(?:^|\s)(?:-e|--index|--extra-index|--find-links|-i|-f)\b|(?:^|\s)/\w", text, re.MULTILINE
    )


def test_the_extras_that_images_install_are_locked() -> None:
    assert {path.stem for path in FOLDER.glob("*.txt")} == set(EXTRAS)
