"""Units for systemd, and the compose file: systemd takes them, and each command takes its options."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from making import ROOT
from scoremux.app import build, spread

UNITS = sorted((ROOT / "server_config/systemd").iterdir())
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "server_config/docker/compose.yaml").read_text())
COMMANDS = [
    *(
        command
        for unit in UNITS
        for command in re.findall(r"^ExecStart=\S+/scoremux (.+)$", unit.read_text(), re.MULTILINE)
    ),
    *(shlex.join(service["command"]) for service in COMPOSE["services"].values()),
]


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze (Debian's package systemd)")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    scoremux = Path(sys.executable).with_name("scoremux")
    for unit in UNITS:
        text = (
            unit.read_text().replace("/opt/scoremux/bin/scoremux", str(scoremux)).replace("User=scoremux", "User=root")
        )
        (tmp_path / unit.name).write_text(text)
    names = [tmp_path / unit.name for unit in UNITS]
    checked = subprocess.run(["systemd-analyze", "verify", "--man=no", *names], capture_output=True, text=True)
    said = [line for line in checked.stderr.splitlines() if "scoremux" in line]
    assert (checked.returncode, said) == (0, [])


@pytest.mark.parametrize("line", COMMANDS)
def test_units_and_compose_file_give_options_that_commands_take(line: str) -> None:
    command, words = typer.main.get_command(build()), spread(shlex.split(line))
    context = command.make_context("scoremux", list(words))
    while hasattr(command, "resolve_command"):
        _, command, words = command.resolve_command(context, words)
        assert command is not None
        context = command.make_context(command.name, list(words), parent=context)


def test_compose_file_has_what_the_server_needs() -> None:
    serve, door = COMPOSE["services"]["serve"], COMPOSE["services"]["door"]
    assert serve["shm_size"] == "1g" and serve["image"] == door["image"]
    assert all(service["restart"] == "always" and service["stop_grace_period"] == "75s" for service in (serve, door))
