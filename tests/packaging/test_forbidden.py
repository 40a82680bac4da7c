"""No pickle, no `eval`, no remote code in anything that is shipped."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from making import ROOT

SHIPPED = ("client", "engine", "export", "server_config", "model_repository")
MODULES = ("pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "jsonpickle")
BUILTINS = ("eval", "exec", "compile", "__import__")
CALLS = (
    "torch.load",
    "torch.jit.load",
    "torch.hub.load",
    "torch.serialization.load",
    "yaml.load",
    "yaml.load_all",
    "yaml.full_load",
    "yaml.full_load_all",
    "yaml.unsafe_load",
    "yaml.unsafe_load_all",
    "pandas.read_pickle",
)
SWITCHES = ("trust_remote_code", "allow_pickle")
"""Keywords that may be there only to say False."""


def forbidden(source: str) -> list[str]:
    """Return what is forbidden in a module's source, each as `line N: what`."""
    tree = ast.parse(source)
    names = dict(_names(tree))
    return [f"line {line}: {what}" for node in ast.walk(tree) for line, what in _found(node, names)]


def _names(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield what each imported name stands for: `from torch import load as l` gives l → torch.load."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield (alias.asname, alias.name) if alias.asname else (alias.name.partition(".")[0],) * 2
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                yield alias.asname or alias.name, f"{node.module}.{alias.name}"


def _found(node: ast.AST, names: dict[str, str]) -> Iterator[tuple[int, str]]:
    if isinstance(node, ast.Import):
        yield from ((node.lineno, alias.name) for alias in node.names if _is_module(alias.name))
    elif isinstance(node, ast.ImportFrom) and node.module:
        if _is_module(node.module):
            yield node.lineno, node.module
        called = (f"{node.module}.{alias.name}" for alias in node.names)
        yield from ((node.lineno, name) for name in called if _is_call(name))
    elif isinstance(node, (ast.Name, ast.Attribute)):
        # The mere mention counts: `run = eval` or `map(torch.load, …)` calls it elsewhere.
        name = _dotted(node, names)
        if name is not None and (_is_call(name) or _is_module(name)):
            yield node.lineno, name
    elif isinstance(node, ast.keyword) and node.arg in SWITCHES:
        if not (isinstance(node.value, ast.Constant) and node.value.value is False):
            yield node.value.lineno, node.arg
    elif isinstance(node, ast.Dict):
        keys = (key.value for key in node.keys if isinstance(key, ast.Constant))
        yield from ((node.lineno, f"{key!r} in a dict") for key in keys if key in SWITCHES)
    elif isinstance(node, ast.Call):
        words = (arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str))
        yield from ((node.lineno, f"{word!r} by name") for word in words if _is_named(word))


def _dotted(node: ast.AST, names: dict[str, str]) -> str | None:
    if isinstance(node, ast.Name):
        return names.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        owner = _dotted(node.value, names)
        return f"{owner}.{node.attr}" if owner else None
    return None


def _is_module(name: str) -> bool:
    return name.partition(".")[0] in MODULES


def _is_call(name: str) -> bool:
    return name in CALLS or name.removeprefix("builtins.") in BUILTINS


def _is_named(word: str) -> bool:
    """Whether a string that is handed to a call names what is forbidden: `import_module("pickle")`."""
    return word in (*MODULES, *CALLS, *BUILTINS, *SWITCHES)


def test_nothing_shipped_runs_code_that_came_as_data() -> None:
    sources: list[Path] = [path for folder in SHIPPED for path in (ROOT / folder).rglob("*.py")]
    assert len(sources) > 100
    found = {str(path.relative_to(ROOT)): forbidden(path.read_text(encoding="utf-8")) for path in sources}
    assert not {path: what for path, what in found.items() if what}


@pytest.mark.parametrize(
    ("planted", "what"),
    [
        ("import pickle", "pickle"),
        ("import os, marshal as m", "marshal"),
        ("def f():\n    from shelve import open", "shelve"),
        ("from joblib.numpy_pickle import load", "joblib.numpy_pickle"),
        ("x = eval('1')", "eval"),
        ("run = exec", "exec"),
        ("import builtins\nbuiltins.exec('')", "builtins.exec"),
        ("from builtins import eval as safe", "builtins.eval"),
        ("__import__('x')", "__import__"),
        ("from importlib import import_module\nimport_module('pickle')", "'pickle' by name"),
        ("getattr(builtins, 'eval')", "'eval' by name"),
        ("import torch\ntorch.load(p, weights_only=True)", "torch.load"),
        ("import torch as t\nlist(map(t.load, paths))", "torch.load"),
        ("from torch import load as fetch", "torch.load"),
        ("import torch.jit\ntorch.jit.load(p)", "torch.jit.load"),
        ("import yaml\nyaml.load(s, Loader=yaml.SafeLoader)", "yaml.load"),
        ("import numpy as np\nnp.load(p, allow_pickle=True)", "allow_pickle"),
        ("import numpy as np\nnp.load(p, allow_pickle=flag)", "allow_pickle"),
        ("AutoModel.from_pretrained(m, trust_remote_code=trusted)", "trust_remote_code"),
        ("AutoModel.from_pretrained(m, **{'trust_remote_code': True})", "'trust_remote_code' in a dict"),
    ],
)
def test_what_is_planted_is_found(planted: str, what: str) -> None:
    assert [found.partition(": ")[2] for found in forbidden(planted)].count(what) >= 1


@pytest.mark.parametrize(
    "harmless",
    [
        "import numpy as np\nnp.load(p, allow_pickle=False)",
        "model.eval()",
        "import re\nre.compile('a')",
        "import yaml\nyaml.safe_load(s)",
        "AutoModel.from_pretrained(m, trust_remote_code=False)",
        "import json\njson.load(f)",
        "'''No pickle, no eval.'''",
    ],
)
def test_what_is_harmless_is_not(harmless: str) -> None:
    assert forbidden(harmless) == []
