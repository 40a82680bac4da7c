"""What is said of a running server, and to whom nobody listens."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scoremux_server.watch.console import Report

SAY = "from scoremux_server.watch.console import Report; report = Report(); report('one'); report('two'); report.end()"


def test_lines_come_as_they_are(tmp_path: Path) -> None:
    file = os.open(tmp_path / "out", os.O_WRONLY | os.O_CREAT)
    report = Report(file)
    lines = ["the store [/data/store] is damaged", "[bold]" + "long " * 100, "ä \udcff"]
    for line in lines:
        report(line)
    report.end()
    os.close(file)
    assert (tmp_path / "out").read_text().splitlines() == [*lines[:2], "ä ?"]


def test_a_pipe_whose_reader_is_gone_and_a_full_disk_do_no_harm() -> None:
    reader, gone = os.pipe()
    os.close(reader)
    for file in (gone, os.open("/dev/full", os.O_WRONLY)):
        report = Report(file)
        report("nobody hears it")
        report("nor this")
        report.end()
        os.close(file)


def test_a_pipe_that_nobody_reads_is_waited_for_by_nobody() -> None:
    program = (
        "from scoremux_server.watch.console import Report\nreport = Report()\nfor i in range(5000): report('x' * 1000)"
    )
    reader, writer = os.pipe()
    ran = subprocess.run([sys.executable, "-c", f"{program}\nreport.end()"], stdout=writer, timeout=60, check=False)
    assert ran.returncode == 0
    os.close(writer)
    os.close(reader)


@pytest.mark.parametrize("end", ["| head -c 0", ">&-", ">/dev/full", ""])
def test_a_program_ends_well_whoever_listens(end: str) -> None:
    command = f'set -o pipefail; "{sys.executable}" -c "import time; time.sleep(.2); {SAY}" {end}'
    ran = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=30, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout == ("" if end else "one\ntwo\n")
