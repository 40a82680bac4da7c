"""Which Linears of a model are sites, and which make up its head: found by name, as PEFT finds `target_modules`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from torch import nn
from transformers.pytorch_utils import Conv1D

from scoremux_export.errors import ModelError

HEADS = ("classifier", "score")
"""What PEFT adds to `modules_to_save` for SEQ_CLS."""

ALL_LINEAR = "all-linear"
REGEX = "re:"


def head_linears(model: nn.Module, also: Sequence[str] = ()) -> dict[str, nn.Linear]:
    """Return every Linear that PEFT saves whole for SEQ_CLS, by module name in the model's order.

    As PEFT does, every module whose name ends in `classifier` or `score` counts (so does `pre_classifier`), and those
    whose names end in one of `also`: what the adapters' own `modules_to_save` adds. The last Linear gives the levels.
    Raises ModelError where there is none.
    """
    roots = [name for name, _ in model.named_modules() if name.endswith((*HEADS, *also)) and name]
    linears = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and any(_inside(name, root) for root in roots)
    }
    for suffix in also:
        if not any(root.endswith(suffix) for root in roots):
            raise ModelError(f"{type(model).__name__} has no module named {suffix}")
    ours = [name for name in linears if any(_inside(name, head) for head in HEADS)]
    if not ours:
        raise ModelError(f"{type(model).__name__} has no Linear in a head named {' or '.join(HEADS)}")
    linears[ours[-1]] = linears.pop(ours[-1])
    return linears


def find_sites(model: nn.Module, wanted: str, also: Sequence[str] = ()) -> dict[str, nn.Linear]:
    """Return the sites by module name, for the three forms PEFT's `target_modules` has.

    ``query,value``: suffixes of module names; ``re:PATTERN``: a regular expression for whole names; ``all-linear``:
    every Linear outside the head (see `head_linears` for `also`). Raises ModelError naming a suffix that matches
    nothing or a match that is no Linear.
    """
    head = head_linears(model, also)
    modules = {name: module for name, module in model.named_modules() if name and name not in head}
    if wanted == ALL_LINEAR:
        # What PEFT's all-linear takes; a Conv1D is then refused by name.
        names = {name for name, module in modules.items() if isinstance(module, (nn.Linear, Conv1D))}
    elif wanted.startswith(REGEX):
        names = _by_regex(modules, wanted.removeprefix(REGEX))
    else:
        names = _by_suffix(modules, [suffix.strip() for suffix in wanted.split(",") if suffix.strip()])
    sites = {}
    for name, module in modules.items():
        if name not in names:
            continue
        if not isinstance(module, nn.Linear):
            raise ModelError(f"{name} is a {type(module).__name__}, not a Linear, and cannot be a site")
        sites[name] = module
    if not sites:
        raise ModelError(f"--sites {wanted} matches no module; this model's Linears are: {_linear_names(modules)}")
    return sites


def _by_regex(modules: dict[str, nn.Module], pattern: str) -> set[str]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ModelError(f"--sites {REGEX}{pattern} is no regular expression: {error}") from error
    return {name for name in modules if compiled.fullmatch(name)}


def _by_suffix(modules: dict[str, nn.Module], suffixes: list[str]) -> set[str]:
    names: set[str] = set()
    for suffix in suffixes:
        matched = {name for name in modules if name == suffix or name.endswith(f".{suffix}")}
        if not matched:
            raise ModelError(f"no module is named {suffix}; this model's Linears are: {_linear_names(modules)}")
        names |= matched
    return names


def _linear_names(modules: dict[str, nn.Module]) -> str:
    return ", ".join(sorted({n.rpartition(".")[2] for n, m in modules.items() if isinstance(m, nn.Linear)}))


def _inside(name: str, root: str) -> bool:
    return name == root or name.startswith(f"{root}.")
