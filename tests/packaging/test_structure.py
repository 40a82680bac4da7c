"""The house: names say one thing each, the map names every folder, options are few, and no data is run as code."""

import ast
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from click import Context

from making import ROOT
from scoremux.app import build
from tests.packaging.plain_words import clauses, crowded, product
from tests.packaging.walks import FOLDERS, Product, Walk, named_walks

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SHARED_NAMES = {"__init__.py", "errors.py", "commands.py"}
"""File names that every package may have."""

PACKAGES = sorted(path for top in FOLDERS for path in (ROOT / top).glob("scoremux_*"))
FILES = [file for package in PACKAGES for file in sorted(package.rglob("*.py"))]


def test_names_of_files_and_classes_are_unique() -> None:
    places = defaultdict(list)
    for file in FILES:
        nodes = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        classes = [n.name for n in nodes if isinstance(n, ast.ClassDef) and not n.name.startswith("_")]
        for name in [*classes, *({file.name} - SHARED_NAMES)]:
            places[name].append(str(file.relative_to(ROOT)))
    assert {name: files for name, files in places.items() if len(files) > 1} == {}


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


MOST_CLAUSES = 80
CROWDED = {"desk/scoremux_review/database"}


def test_docstrings_name_things() -> None:
    """Counted by `python tests/packaging/plain_words.py`, which lists them; fewer are better than what is here."""
    planted = (
        'def f():\n    """Return what is left."""\n\ndef g():\n    """Say what is left; the rest of what came."""\n\n'
    )
    assert list(clauses(planted + '"""What?"""')) == [(2, "Return what is left"), (5, "of what came")]
    found = [place for file in product() for place in clauses(file.read_text(encoding="utf-8"))]
    assert len(found) <= MOST_CLAUSES
    assert crowded().keys() <= CROWDED


MOST_OPTIONS = 255


def _pages(command: Any, context: Context) -> Iterator[tuple[str, list[str]]]:
    """Yield each command's name and the options that its `--help` lists, itself included."""
    options = [p for p in command.get_params(context) if p.param_type_name == "option" and not p.hidden]
    yield context.command_path, [option.opts[0] for option in options]
    for name, under in getattr(command, "commands", {}).items():
        if not under.hidden:  # a deprecated one
            yield from _pages(under, Context(under, parent=context, info_name=name))


def test_help_pages_have_few_options() -> None:
    command = typer.main.get_command(build())
    pages = dict(_pages(command, Context(command, info_name="scoremux")))
    assert {"scoremux score", "scoremux tasks add", "scoremux review users change"} <= pages.keys()
    assert all(options[-1] == "--help" for options in pages.values())
    found = {page: " ".join(options) for page, options in pages.items()}
    assert sum(map(len, pages.values())) <= MOST_OPTIONS, found


SHIPPED = (*FOLDERS, "server_config", "model_repository")
FORBIDDEN = (
    r"^\s*(import|from)\b.*\b(c?pickle|_pickle|dill|cloudpickle|joblib|marshal|shelve|jsonpickle)\b",
    r"\bimport (torch|yaml|builtins)\b.* as |\bfrom (torch|yaml|builtins)\b.*\b(load|eval|exec)\b",
    r"\btorch(\.\w+)*\.load\b|\byaml\.(unsafe_|full_)?load(_all)?\b|\bread_pickle\b|\bbuiltins\.",
    r"(?<![\w.])(eval|exec|compile|__import__)\b(?=\s*[(,)\n])|import_module\(\s*['\"](builtins|\w*pickle)|getattr\(builtins",
    r"\b(trust_remote_code|allow_pickle)\b(?!\s*=\s*False\b)",
)
PATTERN = re.compile("|".join(FORBIDDEN), re.MULTILINE)


def test_listing_benchmarks_loads_no_runner() -> None:
    # It turns off oneDNN's cache of kernels by a variable, which the children of all benchmarks would inherit.
    code = "import sys, benchmarks.registry; assert 'scoremux_engine.runners.precisions' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_nothing_shipped_runs_code_that_came_as_data() -> None:
    sources = [path for folder in SHIPPED for path in (ROOT / folder).rglob("*.py")]
    assert len(sources) > 100
    found = {str(path): PATTERN.search(path.read_text(encoding="utf-8")) for path in sources}
    assert not {path: what for path, what in found.items() if what}


PLANTED = (
    "import pickle",
    "import os, marshal as m",
    "def f():\n    from shelve import open",
    "from joblib.numpy_pickle import load",
    "x = eval('1')",
    "run = exec\n",
    "import builtins\nbuiltins.exec('')",
    "__import__('x')",
    "from importlib import import_module\nimport_module('pickle')",
    "import torch\ntorch.load(p, weights_only=True)",
    "import torch as t\nlist(map(t.load, paths))",
    "from torch import load as fetch",
    "import torch.jit\ntorch.jit.load(p)",
    "import yaml\nyaml.load(s, Loader=yaml.SafeLoader)",
    "np.load(p, allow_pickle=flag)",
    "AutoModel.from_pretrained(m, **{'trust_remote_code': True})",
)
HARMLESS = ("load(p, allow_pickle=False)", "model.eval()", "re.compile('a')", "yaml.safe_load(s)", "json.load(f)")


@pytest.mark.parametrize("source", [*PLANTED, *HARMLESS])
def test_what_is_planted_is_found_and_what_is_harmless_is_not(source: str) -> None:
    assert bool(PATTERN.search(source)) == (source in PLANTED)
