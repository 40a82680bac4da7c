"""No pickle, no `eval`, no remote code in anything that is shipped."""

from __future__ import annotations

import re

import pytest

from making import ROOT

SHIPPED = ("client", "engine", "export", "server_config", "model_repository")
FORBIDDEN = (
    r"^\s*(import|from)\b.*\b(c?pickle|_pickle|dill|cloudpickle|joblib|marshal|shelve|jsonpickle)\b",
    r"\bimport (torch|yaml|builtins)\b.* as |\bfrom (torch|yaml|builtins)\b.*\b(load|eval|exec)\b",
    r"\btorch(\.\w+)*\.load\b|\byaml\.(unsafe_|full_)?load(_all)?\b|\bread_pickle\b|\bbuiltins\.",
    r"(?<![\w.])(eval|exec|compile|__import__)\b(?=\s*[(,)\n])|import_module\(\s*['\"](builtins|\w*pickle)|getattr\(builtins",
    r"\b(trust_remote_code|allow_pickle)\b(?!\s*=\s*False\b)",
)
PATTERN = re.compile("|".join(FORBIDDEN), re.MULTILINE)


def test_nothing_shipped_runs_code_that_came_as_data() -> None:
    sources = [path for folder in SHIPPED for path in (ROOT / folder).rglob("*.py")]
    assert len(sources) > 100
    found = {str(path): PATTERN.search(path.read_text(encoding="utf-8")) for path in sources}
    assert not {path: what for path, what in found.items() if what}


@pytest.mark.parametrize(
    "planted",
    [
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
    ],
)
def test_what_is_planted_is_found(planted: str) -> None:
    assert PATTERN.search(planted)


@pytest.mark.parametrize(
    "harmless",
    ["load(p, allow_pickle=False)", "model.eval()", "re.compile('a')", "yaml.safe_load(s)", "json.load(f)"],
)
def test_what_is_harmless_is_not(harmless: str) -> None:
    assert not PATTERN.search(harmless)
