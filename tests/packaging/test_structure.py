"""The house: file and class names say one thing each, and every folder is one that the map in CONTRIBUTING names."""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from making import ROOT
from tests.packaging.walks import Product, Walk, named_walks

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SHARED_NAMES = {"__init__.py", "errors.py", "commands.py"}
"""File names that every package may have."""

LOOSE = {
    "engine/scoremux_engine": {"engine", "selftest", "errors"},
    "engine/scoremux_server": {"serve", "commands", "profile", "errors"},
    "export/scoremux_export": {"export_graph", "verify_graph", "commands", "errors"},
    "export/scoremux_train": {
        "commands",
        "run",
        "recipe",
        "data",
        "check",
        "cross_validated",
        "output",
        "progress",
        "errors",
    },
}
"""Modules that lie in a package's own folder; all others lie in a folder with a topic."""

PACKAGES = sorted(path for top in ("client", "engine", "export") for path in (ROOT / top).glob("scoremux_*"))
FILES = [file for package in PACKAGES for file in sorted(package.rglob("*.py"))]


def test_file_names_are_unique() -> None:
    places = defaultdict(list)
    for file in FILES:
        if file.name not in SHARED_NAMES:
            places[file.name].append(str(file.relative_to(ROOT)))
    assert {name: files for name, files in places.items() if len(files) > 1} == {}


def test_class_names_are_unique() -> None:
    places = defaultdict(list)
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(str(file.relative_to(ROOT)))
    assert {name: files for name, files in places.items() if len(files) > 1} == {}


@pytest.mark.parametrize("package", sorted(LOOSE))
def test_loose_modules_are_those_of_the_map(package: str) -> None:
    modules = {file.stem for file in (ROOT / package).glob("*.py")} - {"__init__"}
    assert modules == LOOSE[package]


def test_every_file_has_its_floor() -> None:
    """The contract of imports holds for the files that it names."""
    content = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    floors = content["tool"]["importlinter"]["contracts"][0]["layers"]
    named = {module for floor in floors for module in re.split(r"[\s|]+", floor)}
    for package in PACKAGES:
        for file in package.rglob("*.py"):
            parts = file.relative_to(package.parent).with_suffix("").parts
            above = {".".join(parts[:n]) for n in range(2, len(parts) + 1)}
            assert file.name == "__init__.py" or above & named, file


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_map_names_every_folder(package: Path) -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    folders = {file.parent.relative_to(package) for file in package.rglob("*.py")}
    assert f"`{package.name}`" in page
    missing = [str(folder) for folder in sorted(folders) if folder.name and f"`{folder}/`" not in page]
    assert missing == []


def test_walks_of_the_map_do_not_grow() -> None:
    product, found = Product(), named_walks()
    assert len(found) == 6
    walks = {value: Walk(product, starts) for value, starts, _ in found}
    counts = {value: (len(walk.stays()), walk.returns()) for value, walk in walks.items()}
    assert {v: counts[v] for v, _, most in found if counts[v][0] > most[0] or counts[v][1] > most[1]} == {}
