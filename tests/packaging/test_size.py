"""How much there is to learn and to keep: options on the help pages, and lines of the product."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from click import Context

from making import ROOT
from scoremux_cli.app import build

MOST_OPTIONS, COUNTER = 250, ROOT / "tests/packaging/lines_of_code.py"


def _pages(command: Any, context: Context) -> Iterator[tuple[str, list[str]]]:
    """Yield each command's name and the options that its `--help` lists, itself included."""
    options = [p for p in command.get_params(context) if p.param_type_name == "option" and not p.hidden]
    yield context.command_path, [option.opts[0] for option in options]
    for name, under in getattr(command, "commands", {}).items():
        yield from _pages(under, Context(under, parent=context, info_name=name))


def test_help_pages_have_few_options() -> None:
    command = typer.main.get_command(build())
    pages = dict(_pages(command, Context(command, info_name="scoremux")))
    assert {"scoremux score", "scoremux tasks add", "scoremux review users change"} <= pages.keys()
    assert all(options[-1] == "--help" for options in pages.values())
    found = {page: " ".join(options) for page, options in pages.items()}
    assert sum(map(len, pages.values())) <= MOST_OPTIONS, found


def test_lines_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = (
        '"""A module."""\n\n# why\nLEAST = 1\n"""What it is."""\n\ndef f():\n    """Do."""\n    return """a\nb"""\n'
    )
    (tmp_path / "module.py").write_text(source, encoding="utf-8")
    assert _counted(tmp_path) == "10 lines, 4 of code"
    with capsys.disabled():
        print(f" product: {_counted()} ", end="")  # how many there may be is no test's business


def _counted(*folders: Path) -> str:
    return subprocess.run(
        [sys.executable, COUNTER, *folders], check=True, capture_output=True, text=True
    ).stdout.strip()
