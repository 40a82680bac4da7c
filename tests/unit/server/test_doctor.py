"""`scoremux doctor`: what it says of a machine and of a repository."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
import typer

from scoremux_server.tuning.doctor import doctor


def findings(capsys: pytest.CaptureFixture[str], repository: Path | None = None) -> tuple[int, dict[str, Any]]:
    """Return the exit status and the findings by name."""
    status = 0
    try:
        doctor(repository, as_json=True)
    except typer.Exit as end:
        status = end.exit_code
    return status, {finding["name"]: finding for finding in json.loads(capsys.readouterr().out)}


def test_doctor_names_processor_precisions_programs_ports_and_versions(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", 8001))
            listener.listen()
        except OSError:
            pass  # another program has it, which serves as well
        _, by_name = findings(capsys)
    assert "cores" in by_name["processor"]["value"]
    assert "float32" in by_name["precisions"]["value"]
    assert "another program listens here" in by_name["port 8001 (gRPC)"]["value"]
    assert by_name["Triton"]["value"].startswith("Triton 24.10 (bundled)")
    assert "MiB" in by_name["shared memory"]["value"]
    for package in ("numpy", "onnxruntime", "openvino", "pyarrow"):
        assert by_name[package]["value"][0].isdigit()
    assert by_name["scoremux"]["value"].startswith("0.1.0 on Python 3.")


def test_doctor_finds_what_is_wrong_with_a_repository(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "manifest.json").write_text("{")
    status, by_name = findings(capsys, tmp_path)
    assert status == 1
    assert by_name["backbone"]["problem"] and by_name["store"]["problem"]
    assert str(tmp_path) in by_name["store"]["value"]


def test_doctor_prints_a_table(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(typer.Exit):
        doctor(tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["what", "found", "state"]
    assert any(line.startswith("backbone ") and line.rstrip().endswith("problem") for line in lines)
