"""What a running server writes to standard output: nobody's failure to read it does any harm."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scoremux_server.errors import SetupError
from scoremux_server.serve import report
from scoremux_server.triton.repository import assemble

PROGRAM = "from scoremux_server.serve import report; report('one'); report('two')"


def test_report_writes_lines_as_they_are(tmp_path: Path) -> None:
    file = os.open(tmp_path / "out", os.O_WRONLY | os.O_CREAT)
    for line in ("the store [/data/store] is damaged", "[bold]" + "long " * 100, "ä \udcff", "x" * 9999, "last"):
        report(line, file)
    os.close(file)
    lines = (tmp_path / "out").read_text().splitlines()
    assert lines[:3] == ["the store [/data/store] is damaged", "[bold]" + "long " * 100, "ä ?"]
    assert lines[3:] == ["x" * 4095, "last"]


def test_report_waits_for_no_reader() -> None:
    reader, writer = os.pipe()
    for number in range(5000):
        report(f"{number} " + "x" * 1000, writer)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        numbers = [int(line.split()[0]) for line in pipe]
    assert numbers == list(range(len(numbers))) and 10 < len(numbers) < 100
    os.close((gone := os.pipe())[0])
    for file in (gone[1], os.open("/dev/full", os.O_WRONLY)):
        report("lost", file)
        os.close(file)


@pytest.mark.parametrize("end", ["| head -c 0", ">&-", ">/dev/full", ""])
def test_program_ends_well_whoever_reads_its_output(end: str) -> None:
    command = f'set -o pipefail; "{sys.executable}" -c "import time; time.sleep(.2); {PROGRAM}" {end}'
    ran = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=240, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout == ("" if end else "one\ntwo\n")


def test_a_repository_that_is_not_there_is_answered_with_adapters(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"nowhere holds no backbone: name your adapters with --adapters DIR, or run"):
        assemble(tmp_path / "models", tmp_path / "nowhere", tmp_path / "nowhere" / "store")
