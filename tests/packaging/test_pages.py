"""Commands, options, settings, links and units on the pages and in server_config are those of the code."""

import doctest
import importlib
import pkgutil
import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

import scoremux_client
from making import ROOT
from pages import PAGES, RECORDS, Block, blocks
from scoremux.app import build, spread
from scoremux_evidence.verdicts.verdicts import read_criteria
from scoremux_server.front_door.config import FrontDoorConfig
from scoremux_train.recipe import Plan

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SHELL = [block for page in PAGES for block in blocks(page) if block.language == "shell"]
COMMANDS = [(block.where, command) for block in SHELL for command in block.commands]
BEFORE = r"(\w+=\S+ |echo .* \| )?(?=scoremux )"
SCOREMUX = [(where, re.sub(BEFORE, "", c, count=1)) for where, c in COMMANDS if re.match(BEFORE, c)]
MAKE = [(where, command) for where, command in COMMANDS if command.startswith("make ")]
EXTRAS = [(where, extra) for where, command in COMMANDS for extra in re.findall(r"\[([\w,]+)\]['\"]", command)]
MODULES = [
    "scoremux_evidence",
    "scoremux_client",
    *(f"scoremux_client.{m.name}" for m in pkgutil.iter_modules(scoremux_client.__path__)),
]


@pytest.mark.parametrize("line", [line for _, line in MAKE], ids=[where for where, _ in MAKE])
def test_make_has_the_target(line: str) -> None:
    assert re.search(rf"^{line.split()[1]}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


def test_pages_install_extras_that_exist_and_the_list_of_pages_names_each_once() -> None:
    known = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    named = {extra for _, extras in EXTRAS for extra in extras.split(",")}
    assert named
    assert named <= set(known)
    links = Counter(re.findall(r"\]\(([\w./-]+\.md)", (ROOT / "docs/README.md").read_text(encoding="utf-8")))
    here = Counter({str((ROOT / "docs" / link).resolve().relative_to(ROOT)): count for link, count in links.items()})
    # The last: from evidence/decisions.md.
    others = {"README.md", "docs/README.md", "desk/README.md", "examples/conditions/README.md"}
    decisions = {page for page in PAGES if page.startswith("docs/decisions/") and not page.endswith("README.md")}
    assert here == dict.fromkeys({*PAGES, *RECORDS} - others - decisions, 1)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_and_headings(page: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", (ROOT / page).read_text(encoding="utf-8")):
        if re.match(r"https?://", target):
            continue
        file, _, heading = target.partition("#")
        path = (ROOT / page).parent / file if file else ROOT / page
        assert path.exists(), target
        assert not heading or heading in _headings(path), target


@pytest.mark.parametrize("block", [b for page in PAGES for b in blocks(page) if b.language == "python"], ids=str)
def test_python_on_the_pages_compiles(block: Block) -> None:
    compile(block.text, block.where, "exec")


def test_settings_on_the_pages_are_those_of_the_code(tmp_path: Path) -> None:
    def toml(page: str) -> str:
        return "\n".join(block.text for block in blocks(page) if block.language == "toml")

    (tmp_path / "train.toml").write_text(toml("export/training.md"), encoding="utf-8")
    plan, defaults = Plan.read(tmp_path / "train.toml"), Plan()
    assert plan == defaults
    shown = tomllib.loads(toml("export/training.md"))
    assert shown.keys() == Plan.model_fields.keys()
    assert shown["recipe"].keys() == type(defaults.recipe).model_fields.keys()
    assert FrontDoorConfig.model_validate(tomllib.loads(toml("engine/front_door.md"))).backends
    (tmp_path / "criteria.toml").write_text(toml("evidence/README.md"), encoding="utf-8")
    assert [criterion.statistic for criterion in read_criteria(tmp_path / "criteria.toml")] == ["qwk"]


def _headings(path: Path) -> set[str]:
    found = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


@pytest.mark.parametrize("name", MODULES)
def test_a_docstrings_examples_run(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0


UNITS = sorted((ROOT / "server_config/systemd").iterdir())
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "server_config/docker/compose.yaml").read_text())
LINES = [
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


@pytest.mark.parametrize("line", [*(line for _, line in SCOREMUX), *(f"scoremux {line}" for line in LINES)])
def test_the_command_takes_the_options_that_a_page_a_unit_or_the_compose_file_gives(line: str) -> None:
    command, words = typer.main.get_command(build()), spread(shlex.split(line)[1:])
    context = command.make_context("scoremux", list(words))
    while hasattr(command, "resolve_command"):
        _, command, words = command.resolve_command(context, words)
        assert command is not None
        context = command.make_context(command.name, list(words), parent=context)
