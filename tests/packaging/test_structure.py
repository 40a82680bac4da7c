"""The structure: names are unique, and no data is run as code."""

import ast
import re
import subprocess
import sys
from collections import defaultdict

import pytest

from making import ROOT

FOLDERS = ("client", "engine", "evidence", "export", "desk")
SHARED_NAMES = {"__init__.py", "errors.py", "commands.py"}
"""File names that every package may have."""

PACKAGES = [ROOT / "scoremux", *sorted(path for top in FOLDERS for path in (ROOT / top).glob("scoremux_*"))]
FILES = [file for package in PACKAGES for file in sorted(package.rglob("*.py"))]


def test_names_of_files_and_classes_are_unique() -> None:
    places = defaultdict(list)
    for file in FILES:
        nodes = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        classes = [n.name for n in nodes if isinstance(n, ast.ClassDef) and not n.name.startswith("_")]
        for name in [*classes, *({file.name} - SHARED_NAMES)]:
            places[name].append(str(file.relative_to(ROOT)))
    assert {name: files for name, files in places.items() if len(files) > 1} == {}


SHIPPED = ("scoremux", *FOLDERS, "server_config", "model_repository")
FORBIDDEN = (
    r"^\s*(import|from)\b.*\b(c?pickle|_pickle|dill|cloudpickle|joblib|marshal|shelve|jsonpickle)\b",
    r"\bimport (torch|yaml|builtins)\b.* as |\bfrom (torch|yaml|builtins)\b.*\b(load|eval|exec)\b",
    r"\btorch(\.\w+)*\.load\b|\byaml\.(unsafe_|full_)?load(_all)?\b|\bread_pickle\b|\bbuiltins\.",
    r"(?<![\w.])(eval|exec|compile|__import__)\b(?=\s*[(,)\n])|import_module\(\s*['\"](builtins|\w*pickle)|getattr\(builtins",
    r"\b(trust_remote_code|allow_pickle)\b(?!\s*=\s*False\b)",
)
PATTERN = re.compile("|".join(FORBIDDEN), re.MULTILINE)


@pytest.mark.nightly
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
