"""Adapters of a model that was not exported yet: each is compared with the majority of them."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from scoremux_engine.errors import PackageError
from scoremux_engine.model.backbone import Backbone, BackboneSpec, HeadLinear, Site
from scoremux_engine.packages.adapter_folders import BASE, Adapter, same_model
from scoremux_engine.packages.adapter_tables import PREFIX, head_outputs, refuse_misfits
from scoremux_engine.packages.package_files import CONFIG_JSON, PackageFiles
from scoremux_engine.packages.task_descriptions import describe_folder
from scoremux_files.errors import for_each

_HEAD = ("classifier", "score")
"""What PEFT saves whole for SEQ_CLS, at the end of a module's name or before its last part."""


def look_at(folders: Sequence[Path], model: str | None) -> None:
    """Check adapters as far as that needs no model. Raises one PackageError that names all that are wrong.

    Args:
        model: The base model, None for the one that most adapters name.
    """
    readable = []
    for folder in folders:
        with suppress(PackageError):  # named below
            readable.append(Adapter.read(folder))
    likely, base = _likely_spec(readable), _most(adapter.base for adapter in readable)
    for_each(folders, lambda folder: _look(folder, likely, base, model), PackageError, "adapters")


def _look(folder: Path, likely: BackboneSpec, base: str, model: str | None) -> None:
    adapter = Adapter.read(folder)
    if model is None and not (adapter.base and same_model(adapter.base, base)):
        named = f"is {adapter.base}, and others have {base}" if adapter.base else "is missing; give --backbone MODEL"
        raise PackageError(f"{folder / CONFIG_JSON}: {BASE} {named}")
    files, _ = describe_folder(folder, Backbone(folder, likely))
    tensors, levels = files.tensors, files.task.width
    refuse_misfits(tensors, files.config, likely, head_outputs(tensors, likely, levels))
    tensors.load()


def _likely_spec(adapters: Iterable[Adapter]) -> BackboneSpec:
    """Return sites and head as most adapters have them; of a head of several Linears, the narrowest is the last."""
    sites, heads = defaultdict[str, list[Site]](list), defaultdict[str, list[HeadLinear]](list)
    for adapter in adapters:
        shapes = PackageFiles(adapter.folder).tensors.shapes
        for site in adapter.sites:
            a, b = (shapes.get(f"{PREFIX}{site}.lora_{part}.weight", ()) for part in "AB")
            if len(a) == len(b) == 2:
                opened = Site.model_construct(name=site, d_in=a[1], d_out=b[0], dora=True, bias=True)
                sites[site].append(opened)
        for name in adapter.saved:
            shape = shapes.get(f"{PREFIX}{name}.weight", ())
            if len(shape) == 2 and {*name.split(".")[-2:]} & {*_HEAD}:
                d_out, d_in = shape
                bias = f"{PREFIX}{name}.bias" in shapes
                linear = HeadLinear.model_construct(name=name, d_in=d_in, d_out=d_out, bias=bias)
                heads[name].append(linear)
    head = sorted(map(_most, heads.values()), key=lambda linear: -linear.d_out)
    last = [linear.model_copy(update={"d_out": None}) for linear in head[-1:]]
    return BackboneSpec.model_construct(sites=list(map(_most, sites.values())), head=head[:-1] + last)


def _most(values: Iterable[Any]) -> Any:
    return max(Counter(values).items(), key=lambda item: item[1], default=("", 0))[0]
