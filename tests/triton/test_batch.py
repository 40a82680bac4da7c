"""A batch job against a Triton that dies in mid-run."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from batch_jobs import SCOREMUX
from tritons import MortalTriton
from waiting import until

pytestmark = pytest.mark.triton
ROWS = 1500


def kill_and_restart(server: MortalTriton) -> None:
    server.kill()
    time.sleep(0.3)
    server.restart()


@pytest.mark.parametrize("strike", [kill_and_restart, MortalTriton.kill_stub], ids=["server", "stub"])
def test_every_row_is_scored_once_whatever_dies(tmp_path: Path, strike: Callable[[MortalTriton], None]) -> None:
    source, out, stop = tmp_path / "in.csv", tmp_path / "out", threading.Event()
    source.write_text("id,task,text\n" + "".join(f"r{n},t-1,{n}\n" for n in range(ROWS)))
    with MortalTriton() as server:
        command = [SCOREMUX, "score", source, "--out", out, "--url", server.endpoints.grpc_url, "--part-rows", "100"]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        until(lambda: len(list(out.glob("part-*"))) >= 2, process)
        strike(server)
        healer = threading.Thread(target=server.heal, args=(stop,))
        healer.start()
        try:
            _, said = process.communicate(timeout=240)
        finally:
            stop.set()
            healer.join()
            process.kill()
    assert process.returncode == 0, said
    assert len(list(out.glob("part-*"))) == 15
    found = [row for part in sorted(out.glob("part-*")) for row in pq.read_table(part).to_pylist()]
    expected = [(f"r{n}", n, "OK", n + 2) for n in range(ROWS)]
    assert [(row["id"], row["level"], row["status"], row["line"]) for row in found] == expected
