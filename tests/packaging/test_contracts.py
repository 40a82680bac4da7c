"""What the last release promised is there, or the changelog tells its users what to do; and the bridge to the desk."""

import ast
import json
import re
from importlib import import_module
from inspect import ismodule

import pytest

from contracts_file import BRIDGE, Contracts, broken, contracts
from making import ROOT

RELEASES = sorted((ROOT / "tests/upgrade").glob("*/contracts.json"))
TO_DO = "### To do after an upgrade"
SECTIONS = ("### Gone\n", TO_DO)


def unnamed(before: Contracts, now: Contracts, changelog: str) -> list[str]:
    """Return broken contracts whose name, or whose command's, the first `SECTIONS` of a changelog do not have."""
    named = "".join(changelog.partition(title)[2].partition("\n##")[0] for title in SECTIONS)
    words = set(re.findall(r"[\w./-]+", named.replace("`", " ")))
    commands = tuple(f"options: {command} " for command in re.findall(r"- `(scoremux [a-z -]+)`", named))

    def is_named(name: str) -> bool:
        # An endpoint is named by its path up to a parameter, a member of a shape by the shape.
        word = name.split()[-1].partition("/{")[0]
        shape = word.partition(".")[0] if name.startswith("schemas: ") else word
        return word in words or shape in words or f"{name} ".startswith(commands)

    return [name for name in broken(before, now) if not is_named(name)]


@pytest.fixture(scope="module")
def now() -> Contracts:
    return contracts()


@pytest.fixture
def changelog() -> str:
    return (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_what_the_last_release_promised_is_kept_or_named_in_the_changelog(now: Contracts, changelog: str) -> None:
    before = json.loads(RELEASES[-1].read_text(encoding="utf-8"))
    assert unnamed(before, now, changelog) == []


@pytest.mark.parametrize(
    ("kind", "name"),
    [("metrics", "scoremux_rows_total"), ("options", "scoremux score --keep"), ("columns: final", "decided_by")],
)
def test_what_is_gone_without_a_word_is_found(now: Contracts, kind: str, name: str) -> None:
    without = {**now, kind: {other: type_name for other, type_name in now[kind].items() if other != name}}
    renamed = {**now, kind: {**now[kind], name: "another"}}
    assert unnamed(now, without, f"{TO_DO}\n\n- Nothing.\n") == [f"{kind}: {name}"]
    assert unnamed(now, renamed, f"{TO_DO}\n\n- Nothing.\n") == [f"{kind}: {name}"]
    assert unnamed(now, without, f"{TO_DO}\n\n- `{name}` is gone.\n\n## [0.1]\n") == []


def minor(version: str) -> int:
    """Return the number of a minor version, counted over major ones."""
    major, number = map(int, version.split(".")[:2])
    return 1000 * major + number


def test_every_kind_of_contract_has_names_and_what_is_deprecated_works_for_one_minor_version(now: Contracts) -> None:
    assert [kind for kind, names in now.items() if not names] in ([], ["deprecated"])
    assert {"scoremux_canaries", "scoremux_rows_total"} <= now["metrics"].keys()
    assert now["keys: policy"]["watch"] == now["keys: policy"]["conditions.blank"] == "table"
    assert now["exit statuses"]["ALERT_STATUS"] == "4"
    # It warns in one version at least before the one that removes it.
    release = RELEASES[-1].parent.name
    names = {name for kind, names in now.items() if kind != "deprecated" for name in names}
    assert now["deprecated"].keys() <= names
    assert [name for name, ends in now["deprecated"].items() if minor(ends) <= minor(release) + 1] == []


WHERE = "name it in BRIDGE of tests/support/contracts_file.py if others need it too; else let the desk have its own"


def imported() -> dict[str, set[str]]:
    """Return the names that files of the desk import of scoremux, by module."""
    names: dict[str, set[str]] = {}
    for path in (ROOT / "desk").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                assert not any(_is_ours(alias.name) for alias in node.names), f"{path}: import names of scoremux"
            if isinstance(node, ast.ImportFrom) and _is_ours(node.module or ""):
                names.setdefault(str(node.module), set()).update(alias.name for alias in node.names)
    return names


def _is_ours(module: str) -> bool:
    return module.startswith("scoremux") and not module.startswith("scoremux_desk")


def test_desk_uses_the_names_of_the_bridge_which_is_narrow_and_has_no_modules() -> None:
    places = [(module, name) for module, names in BRIDGE.items() for name in names.split()]
    used = {(module, name) for module, names in imported().items() for name in names}
    assert used - {*places} == set(), WHERE
    assert {*places} - used == set(), "the desk does not use these any more: leave them out of BRIDGE"
    assert not [place for place in places if ismodule(getattr(import_module(place[0]), place[1]))]
