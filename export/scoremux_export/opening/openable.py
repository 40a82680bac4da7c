"""What of a model is opened: its sites, its head, and which LoRA variants the sites take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from scoremux_engine.model.backbone import HeadLinear, Site
from scoremux_engine.packages.adapter_folders import Adapter
from scoremux_engine.packages.package_files import TENSORS
from scoremux_export.errors import ModelError
from scoremux_export.opening.sites import find_sites, head_linears


@dataclass(frozen=True)
class Opening:
    """What of a model its adapters may change.

    Attributes:
        modules_to_save: Name endings of modules that adapters save whole, beyond the head.
        dora: Sites take a magnitude (one more vector a site, and the weights to compute its norms from).
        bias: Sites take a bias of the adapter's own (`lora_bias`, `bias="lora_only"`). Like DoRA it costs every row a
            little, so it is opened only where adapters need it.
    """

    sites: str = "query,value"
    modules_to_save: tuple[str, ...] = ()
    dora: bool = False
    bias: bool = False

    def find(self, model: nn.Module) -> tuple[dict[str, nn.Linear], dict[str, nn.Linear]]:
        """Return the sites and the head's Linears by module name. Raises ModelError."""
        return find_sites(model, self.sites, self.modules_to_save), head_linears(model, self.modules_to_save)

    def describe(self, model: nn.Module) -> tuple[tuple[Site, ...], tuple[HeadLinear, ...]]:
        """Return both as the backbone's description has them; the head's last Linear has the task's width."""
        linears, head_parts = self.find(model)
        last = list(head_parts)[-1]
        sites = tuple(
            Site(name=n, d_in=m.in_features, d_out=m.out_features, dora=self.dora, bias=self.bias)
            for n, m in linears.items()
        )
        head = tuple(
            HeadLinear(name=n, d_in=m.in_features, d_out=None if n == last else m.out_features, bias=m.bias is not None)
            for n, m in head_parts.items()
        )
        return sites, head


def opening_for(adapters: Sequence[Adapter], model: nn.Module) -> Opening:
    """Return what all adapters together need. Raises ModelError naming an adapter and what cannot be opened."""
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
