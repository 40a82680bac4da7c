"""No pickle, no `eval`, no remote code in anything that is shipped."""

from __future__ import annotations

from pathlib import Path

import pytest

from forbidden import forbidden
from making import ROOT

SHIPPED = ("client", "engine", "export", "server_config", "model_repository")


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
