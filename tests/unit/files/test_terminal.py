"""Tables: no cell is cut at any width; columns that are left out are named."""

from __future__ import annotations

import io
import time
from typing import Any

import pytest
from rich.console import Console

from scoremux_files.terminal import print_table, ticking
from waiting import until

COLUMNS = ("task", "rows", "moved", "Δ exact", "Δ QWK", "question")
ROWS = [
    ("en-6.3-ipp", "1,234", ".14 [.06, .22]", "+.01 [.00, .02]", "+.02 [−.01, .05]", "Why is the sky blue? " * 4),
    ("日本", "7", "–", "–", "–", "[bold]no markup\x1b[31m"),
]


def lines(width: int | None, **options: Any) -> list[str]:
    """Return what is printed at a terminal's width, None for a pipe."""
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=width is not None, color_system=None)
    print_table(console, COLUMNS, ROWS, **options)
    return file.getvalue().splitlines()


@pytest.mark.parametrize("box", [True, False])
@pytest.mark.parametrize("width", [30, 60, 80, 200, None])
def test_no_cell_is_cut_and_left_out_columns_are_named(width: int | None, box: bool) -> None:
    printed = lines(width, box=box, numbers=("rows",), leave_out=("moved", "Δ exact"))
    text = "\n".join(printed)
    names = next((line.partition(": ")[2].split(", ") for line in printed if line.startswith("left out")), [])
    for place, name in enumerate(COLUMNS):
        shown = ROWS[0][place].strip() in text
        assert shown is (name not in names), name
    assert "…" not in text and "\x1b" not in text
    if width is None:
        assert not names and "[bold]no markup�[31m" in text
    else:
        assert all(len(line) <= width for line in printed if not line.startswith("left out"))
    if names:
        order = ["moved", "Δ exact", "question", "Δ QWK", "rows"]
        assert sorted(names, key=order.index) == order[: len(names)]


@pytest.mark.parametrize("width", [40, 60, 200])
def test_long_values_of_a_table_of_keys_are_folded(width: int) -> None:
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=True, color_system=None)
    print_table(console, ("", "1f3a"), [("question", "Why? " * 60), ("levels", "0, 1, 2")], fold=("1f3a",))
    printed = file.getvalue()
    assert printed.count("Why?") == 60 and "0, 1, 2" in printed and "left out" not in printed
    assert max(map(len, printed.splitlines())) <= width


def test_a_long_step_says_that_it_goes_on() -> None:
    file = io.StringIO()
    with ticking(Console(file=file), "exporting", every_s=0.01):
        until(lambda: file.getvalue().count("exporting: 0 s so far") >= 2 or "1 s so far" in file.getvalue())
    written = file.getvalue()
    time.sleep(0.05)
    assert file.getvalue() == written
