"""Adapters of a model that was not exported yet: each is compared with the majority of them."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from scoremux_engine.errors import PackageError, together
from scoremux_engine.model.backbone import Backbone, BackboneSpec, HeadLinear, Site
from scoremux_engine.packages.adapter_folders import BASE, Adapter, same_model
from scoremux_engine.packages.adapter_tables import PREFIX, head_outputs, refuse_misfits
from scoremux_engine.packages.package_files import CONFIG_JSON, PackageFiles
from scoremux_engine.packages.task_descriptions import TaskFields, describe_files

_HEAD = ("classifier", "score")
"""What PEFT saves whole for SEQ_CLS, at the end of a module's name or before its last part."""


def look_at(folders: Sequence[Path], table: Mapping[str, TaskFields], model: str | None) -> None:
    """Check adapters as far as that needs no model. Raises one PackageError that names all that are wrong.

    Args:
        model: The base model, None for the one that most adapters name.
    """
    readable = []
    for folder in folders:
        try:
            readable.append(Adapter.read(folder))
        except PackageError:
            continue  # named below
    likely = _likely_spec(readable)
    base, wrong = _most(adapter.base for adapter in readable), []
    for folder in folders:
        try:
            _look(folder, table, likely, base, model)
        except PackageError as error:
            wrong.append(error)
    if wrong:
        raise together(wrong, len(folders))


def _look(folder: Path, table: Mapping[str, TaskFields], likely: BackboneSpec, base: str, model: str | None) -> None:
    adapter = Adapter.read(folder)
    if model is None and not (adapter.base and same_model(adapter.base, base)):
        named = f"is {adapter.base}, and others have {base}" if adapter.base else "is missing; give --backbone MODEL"
        raise PackageError(f"{folder / CONFIG_JSON}: {BASE} {named}")
    row = table.get(folder.absolute().name, {})
    files, _ = describe_files(PackageFiles(folder), Backbone(folder, likely), row)
    tensors, levels = files.tensors, len(files.task.levels)
    refuse_misfits(tensors, files.config, likely, head_outputs(tensors, likely, levels))
    tensors.load()


def _likely_spec(adapters: Iterable[Adapter]) -> BackboneSpec:
    """Return sites and head as most adapters have them; of a head of several Linears, the narrowest is the last."""
    sites, heads = defaultdict[str, list[Any]](list), defaultdict[str, list[Any]](list)
    for adapter in adapters:
        shapes = PackageFiles(adapter.folder).tensors.shapes
        for site in adapter.sites:
            a, b = (shapes.get(f"{PREFIX}{site}.lora_{part}.weight", ()) for part in "AB")
            sites[site] += [(a[1], b[0])] if len(a) == len(b) == 2 else []
        for name in adapter.saved:
            shape = shapes.get(f"{PREFIX}{name}.weight", ())
            if len(shape) == 2 and {*name.split(".")[-2:]} & {*_HEAD}:
                heads[name].append((*shape, f"{PREFIX}{name}.bias" in shapes))
    widths = {name: _most(shapes) for name, shapes in heads.items()}
    last = min(widths, key=lambda name: widths[name][0], default="")
    linears = sorted(widths, key=last.__eq__)
    return BackboneSpec.model_construct(
        sites=[
            Site(name=name, d_in=d_in, d_out=d_out, dora=True, bias=True)
            for name, shapes in sites.items()
            if shapes
            for d_in, d_out in [_most(shapes)]
        ],
        head=[
            HeadLinear(name=n, d_in=widths[n][1], d_out=None if n == last else widths[n][0], bias=widths[n][2])
            for n in linears
        ],
    )


def _most(values: Iterable[Any]) -> Any:
    return max(Counter(values).items(), key=lambda item: item[1], default=("", 0))[0]
