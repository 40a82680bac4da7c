"""`scoremux files`: what it writes from an installation, and what it does not replace."""

import sys
from pathlib import Path

import pytest

from making import ROOT
from scoremux_server.commands import files
from scoremux_server.errors import SetupError


@pytest.mark.parametrize("kind", ["systemd", "monitoring"])
def test_all_files_are_written_and_none_is_replaced(kind: str, tmp_path: Path) -> None:
    source = ROOT / "server_config" / kind
    files(kind, tmp_path / "out")  # type: ignore[arg-type]
    names = {path.relative_to(source) for path in source.rglob("*") if path.is_file()}
    assert {path.relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob("*") if path.is_file()} == names
    with pytest.raises(SetupError, match="exists: move it away, or give another folder"):
        files(kind, tmp_path / "out")  # type: ignore[arg-type]


def test_units_run_this_installation_and_the_policy_can_be_read(tmp_path: Path) -> None:
    files("systemd", tmp_path)
    assert f"ExecStart={sys.prefix}/bin/scoremux serve " in (tmp_path / "scoremux-serve.service").read_text()
    files("policy", tmp_path)
    assert (tmp_path / "policy.toml").read_text() == (ROOT / "examples/policy.toml").read_text()
