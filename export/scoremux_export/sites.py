"""Which Linears of a model are sites, and which make up its head: found by name, as PEFT finds `target_modules`."""

from __future__ import annotations

import re

from torch import nn

from scoremux_export.errors import ModelError

HEADS = ("classifier", "score")
"""Names PEFT gives to `modules_to_save` for SEQ_CLS."""

ALL_LINEAR = "all-linear"
REGEX = "re:"


def head_root(model: nn.Module) -> str:
    """Return the name of the model's head. Raises ModelError where there is none that PEFT would save."""
    for name in HEADS:
        if isinstance(getattr(model, name, None), nn.Module):
            return name
    raise ModelError(f"{type(model).__name__} has no head named {' or '.join(HEADS)}")


def head_linears(model: nn.Module) -> dict[str, nn.Linear]:
    """Return every Linear of the head by module name, in the order they are called by convention (last one: levels)."""
    root = head_root(model)
    linears = {n: m for n, m in model.named_modules() if _inside(n, root) and isinstance(m, nn.Linear)}
    if not linears:
        raise ModelError(f"the head {root} of {type(model).__name__} holds no Linear")
    return linears


def find_sites(model: nn.Module, wanted: str) -> dict[str, nn.Linear]:
    """Return the sites by module name, for the three forms PEFT's `target_modules` has.

    ``query,value``: suffixes of module names; ``re:PATTERN``: a regular expression for whole names; ``all-linear``:
    every Linear outside the head. Raises ModelError naming a suffix that matches nothing or a match that is no Linear.
    """
    root = head_root(model)
    modules = {name: module for name, module in model.named_modules() if name and not _inside(name, root)}
    if wanted == ALL_LINEAR:
        chosen = {name for name, module in modules.items() if isinstance(module, nn.Linear)}
    elif wanted.startswith(REGEX):
        chosen = _by_regex(modules, wanted.removeprefix(REGEX))
    else:
        chosen = _by_suffix(modules, [suffix.strip() for suffix in wanted.split(",") if suffix.strip()])
    sites = {}
    for name, module in modules.items():
        if name not in chosen:
            continue
        if not isinstance(module, nn.Linear):
            raise ModelError(f"{name} is a {type(module).__name__}, not a Linear; it cannot be a site")
        sites[name] = module
    if not sites:
        raise ModelError(f"--sites {wanted} matches no module of {type(model).__name__}")
    return sites


def _by_regex(modules: dict[str, nn.Module], pattern: str) -> set[str]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ModelError(f"--sites {REGEX}{pattern} is no regular expression: {error}") from error
    return {name for name in modules if compiled.fullmatch(name)}


def _by_suffix(modules: dict[str, nn.Module], suffixes: list[str]) -> set[str]:
    chosen: set[str] = set()
    for suffix in suffixes:
        matched = {name for name in modules if name == suffix or name.endswith(f".{suffix}")}
        if not matched:
            linears = sorted({n.rpartition(".")[2] for n, m in modules.items() if isinstance(m, nn.Linear)})
            raise ModelError(f"no module is named {suffix}; this model's Linears are: {', '.join(linears)}")
        chosen |= matched
    return chosen


def _inside(name: str, root: str) -> bool:
    return name == root or name.startswith(f"{root}.")
