"""The examples in docstrings, run as they stand."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import scoremux_client

MODULES = [
    "scoremux_assess",
    "scoremux_client",
    *(f"scoremux_client.{m.name}" for m in pkgutil.iter_modules(scoremux_client.__path__)),
]


@pytest.mark.parametrize("name", MODULES)
def test_a_docstrings_examples_run(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0


@pytest.mark.parametrize(
    ("module", "name"), [("client", "ScoringClient"), ("async_client", "AsyncScoringClient")], ids=str
)
def test_the_clients_have_examples(module: str, name: str) -> None:
    found = doctest.DocTestFinder().find(importlib.import_module(f"scoremux_client.{module}"))
    assert name in {test.name.rpartition(".")[2] for test in found if test.examples}
