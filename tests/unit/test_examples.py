"""The examples in the client's docstrings, run as they stand."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import scoremux_client

MODULES = ["scoremux_client", *(f"scoremux_client.{m.name}" for m in pkgutil.iter_modules(scoremux_client.__path__))]


@pytest.mark.parametrize("name", MODULES)
def test_a_docstrings_examples_run(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_the_clients_have_examples() -> None:
    found = doctest.DocTestFinder().find(importlib.import_module("scoremux_client.client"))
    assert {test.name.rpartition(".")[2] for test in found if test.examples} >= {"ScoringClient", "AsyncScoringClient"}
