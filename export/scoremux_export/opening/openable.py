"""The parts of a model that are opened: sites and head, by name as PEFT finds them, and the LoRA variants of sites."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn
from transformers.pytorch_utils import Conv1D

from scoremux_engine.model.backbone import HeadLinear, Site
from scoremux_engine.packages.adapter_folders import Adapter
from scoremux_engine.packages.package_files import TENSORS
from scoremux_export.errors import ModelError

HEADS = ("classifier", "score")
"""What PEFT adds to `modules_to_save` for SEQ_CLS."""

ALL_LINEAR = "all-linear"
REGEX = "re:"


@dataclass(frozen=True)
class Opening:
    """The parts of a model that its adapters may change.

    Attributes:
        modules_to_save: Endings of the names of modules that adapters save whole, beyond the head.
        dora: Sites take a magnitude (one more vector a site, and the weights to compute its norms from).
        bias: Sites take a bias of the adapter's own (`lora_bias`, `bias="lora_only"`). Like DoRA it costs every row a
            little, so it is opened only where adapters need it.
    """

    sites: str = "query,value"
    modules_to_save: tuple[str, ...] = ()
    dora: bool = False
    bias: bool = False

    def describe(self, model: nn.Module) -> tuple[tuple[Site, ...], tuple[HeadLinear, ...]]:
        """Return the sites and the head's Linears of a model; the last one has the task's width. Raises ModelError."""
        sites = [
            Site(name=name, d_in=m.in_features, d_out=m.out_features, dora=self.dora, bias=self.bias)
            for name, m in find_sites(model, self.sites, self.modules_to_save).items()
        ]
        head = [
            HeadLinear(name=name, d_in=m.in_features, d_out=m.out_features, bias=m.bias is not None)
            for name, m in head_linears(model, self.modules_to_save).items()
        ]
        head[-1] = head[-1].model_copy(update={"d_out": None})
        return tuple(sites), tuple(head)


def opening_for(adapters: Sequence[Adapter], model: nn.Module) -> Opening:
    """Return the opening for all adapters together. Raises ModelError naming an adapter and the module at fault."""
    modules = dict(model.named_modules())
    head = head_linears(model)
    saved = [name for name in adapters[0].saved if name not in head]
    for adapter in adapters:
        path = adapter.folder / TENSORS
        for name in (*adapter.sites, *adapter.saved):
            module = modules.get(name)
            if module is None:
                raise ModelError(f"{path} changes {name}, which {type(model).__name__} has not: it is of another model")
            if not isinstance(module, nn.Linear):
                key = "target_modules" if name in adapter.sites else "modules_to_save"
                raise ModelError(f"{path} changes {name}, a {type(module).__name__}; only Linears may differ ({key})")
            if name in head and name in adapter.sites:
                raise ModelError(f"{path} has LoRA at {name}, which is in the head: save it whole (modules_to_save)")
        other = sorted({*saved} ^ {name for name in adapter.saved if name not in head})
        if other:
            raise ModelError(
                f"{adapters[0].folder} and {adapter.folder} differ in modules_to_save ({other[0]}); the adapters of "
                "one backbone save the same modules whole"
            )
    return Opening(
        ",".join(dict.fromkeys(name for adapter in adapters for name in adapter.sites)),
        tuple(saved),
        dora=any(adapter.dora for adapter in adapters),
        bias=any(adapter.bias for adapter in adapters),
    )


def head_linears(model: nn.Module, also: Sequence[str] = ()) -> dict[str, nn.Linear]:
    """Return every Linear that PEFT saves whole for SEQ_CLS, by module name in the model's order.

    As PEFT does, every module whose name ends in `classifier` or `score` counts (so does `pre_classifier`), and those
    whose names end in one of `also`: those of the adapters' own `modules_to_save`. The last Linear gives the levels.
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


def find_sites(model: nn.Module, targets: str, also: Sequence[str] = ()) -> dict[str, nn.Linear]:
    """Return the sites by module name, for the three forms PEFT's `target_modules` has.

    ``query,value``: suffixes of module names; ``re:PATTERN``: a regular expression for whole names; ``all-linear``:
    every Linear outside the head (see `head_linears` for `also`). Raises ModelError naming a suffix that matches
    nothing or a match that is not a Linear.
    """
    head = head_linears(model, also)
    modules = {name: module for name, module in model.named_modules() if name and name not in head}
    if targets == ALL_LINEAR:
        # What PEFT's all-linear takes; a Conv1D is then refused by name.
        names = {name for name, module in modules.items() if isinstance(module, (nn.Linear, Conv1D))}
    elif targets.startswith(REGEX):
        names = _by_regex(modules, targets.removeprefix(REGEX))
    else:
        names = _by_suffix(modules, [suffix.strip() for suffix in targets.split(",") if suffix.strip()])
    sites = {}
    for name, module in modules.items():
        if name not in names:
            continue
        if not isinstance(module, nn.Linear):
            raise ModelError(f"{name} is a {type(module).__name__}, not a Linear, and cannot be a site")
        sites[name] = module
    if not sites:
        raise ModelError(f"--sites {targets} matches no module; this model's Linears are: {_linear_names(modules)}")
    return sites


def _by_regex(modules: dict[str, nn.Module], pattern: str) -> set[str]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ModelError(f"--sites {REGEX}{pattern} is not a regular expression: {error}") from error
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
