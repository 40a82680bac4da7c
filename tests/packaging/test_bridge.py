"""The bridge: what the desk uses of scoremux, which programs of others may use as well."""

import ast
from importlib import import_module
from inspect import ismodule

from contracts_file import BRIDGE
from making import ROOT

MOST_NAMES, MOST_MODULES = 67, 12
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
    return module.startswith("scoremux") and not module.startswith(("scoremux_review", "scoremux_api"))


def test_desk_uses_the_names_of_the_bridge() -> None:
    used = {f"{module}.{name}" for module, names in imported().items() for name in names}
    bridge = {f"{module}.{name}" for module, names in BRIDGE.items() for name in names.split()}
    assert used - bridge == set(), WHERE
    assert bridge - used == set(), "the desk does not use these any more: leave them out of BRIDGE"


def test_bridge_is_narrow_and_has_no_modules() -> None:
    places = [(module, name) for module, names in BRIDGE.items() for name in names.split()]
    found = {place: getattr(import_module(place[0]), place[1]) for place in places}
    assert [place for place, value in found.items() if ismodule(value)] == []
    assert len(found) <= MOST_NAMES
    assert len(BRIDGE) <= MOST_MODULES
