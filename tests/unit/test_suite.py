"""The sets of benchmarks name modules that there are, with arguments that these take."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.provenance import ROOT
from benchmarks.suite import ALL, LAST, QUICK, command


def test_a_line_becomes_a_command() -> None:
    made = command("healing SAF --repository REPOSITORY", Path("/saf"), Path("/held"))
    assert made == [sys.executable, "-m", "benchmarks.healing", "--data", "/saf", "--repository", "/held/repository"]


@pytest.mark.parametrize("line", sorted({*QUICK, *ALL, *LAST}))
def test_every_line_names_a_module_and_its_options(line: str) -> None:
    module, *arguments = line.split()
    source = ROOT / "benchmarks" / f"{module}.py"
    package = ROOT / "benchmarks" / module / "__main__.py"
    text = (source if source.exists() else package).read_text(encoding="utf-8")
    text += (ROOT / "benchmarks" / "perf_input.py").read_text(encoding="utf-8") if module == "perf" else ""
    for argument in arguments:
        if argument.startswith("--"):
            assert f'"{argument}"' in text
    assert ("SAF" in arguments) == ('"--data"' in text)
