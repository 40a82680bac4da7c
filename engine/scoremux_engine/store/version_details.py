"""What `tasks show` and `tasks diff` print about versions of a task."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scoremux_engine.errors import PackageError
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.model.buckets import padded_prefix
from scoremux_engine.packages.adapter_layout import PREFIX
from scoremux_engine.packages.package import prefix_of
from scoremux_engine.packages.package_files import CONFIG_JSON, DECISION_JSON, TASK_JSON, PackageFiles
from scoremux_engine.packages.tensor_file import Array
from scoremux_engine.store.reader import StoreReader
from scoremux_files.settings import parse_file

Shape = list[int]


@dataclass(frozen=True)
class FieldDifference:
    """A key of a JSON file whose value differs between two versions; None where a version lacks the key."""

    where: str
    name: str
    before: Any
    after: Any


@dataclass(frozen=True)
class TensorDifference:
    """A tensor that differs.

    Attributes:
        before, after: Shapes in the two versions; None where a version lacks the tensor.
        largest: max |new − old|; None where the shapes differ.
        relative: ‖new − old‖ / ‖old‖; None where the shapes differ, or for an old tensor of zeros.
    """

    name: str
    before: Shape | None
    after: Shape | None
    largest: float | None
    relative: float | None


@dataclass(frozen=True)
class Difference:
    """All that differs between two packages."""

    fields: list[FieldDifference]
    tensors: list[TensorDifference]
    tensors_compared: int

    def to_json(self) -> dict[str, Any]:
        return {"fields": [asdict(f) for f in self.fields], "tensors": [asdict(t) for t in self.tensors]}


def compare(old: Path, new: Path) -> Difference:
    """Compare the packages in two folders. Raises PackageError if one is damaged."""
    packages = PackageFiles(old), PackageFiles(new)
    fields = [field for name in (TASK_JSON, CONFIG_JSON, DECISION_JSON) for field in _compare_json(*packages, name)]
    before, after = (files.tensors.load()[0] for files in packages)
    names = sorted({*before, *after})
    tensors = [_compare_tensors(name, before.get(name), after.get(name)) for name in names]
    return Difference(fields, [tensor for tensor in tensors if tensor is not None], len(names))


def _compare_json(old: PackageFiles, new: PackageFiles, name: str) -> Iterator[FieldDifference]:
    before, after = _json(old, name), _json(new, name)
    for key in sorted({*before, *after}):
        if before.get(key) != after.get(key):
            yield FieldDifference(name, key, before.get(key), after.get(key))


def _json(files: PackageFiles, name: str) -> dict[str, Any]:
    return parse_file(files.read(name), files.path / name, PackageError) if name in files.names else {}


def _compare_tensors(name: str, old: Array | None, new: Array | None) -> TensorDifference | None:
    before, after = (list(array.shape) if array is not None else None for array in (old, new))
    if old is None or new is None or before != after:
        return TensorDifference(name, before, after, None, None)
    if np.array_equal(old, new):
        return None
    apart, norm = new.astype(np.float64) - old, float(np.linalg.norm(old.astype(np.float64)))
    relative = float(np.linalg.norm(apart)) / norm if norm else None
    return TensorDifference(name, before, after, float(np.abs(apart).max()), relative)


def summarise(store: StoreReader, task: str, digest: str) -> dict[str, Any]:
    """Return task.json, the adapter's kind, ranks, sites and bytes, and the task's versions. Raises PackageError."""
    files = PackageFiles(store.package_folder(digest))
    described = files.task.model_dump(mode="json", exclude_none=True)
    ranks = {
        name.removeprefix(PREFIX).removesuffix(".lora_A.weight"): shape[0]
        for name, shape in files.tensors.shapes.items()
        if name.endswith(".lora_A.weight") and shape
    }
    return {
        **described,
        "adapter": _kind(files),
        "ranks": sorted(set(ranks.values())),
        "sites": sorted(ranks),
        "bytes": sum((files.path / name).stat().st_size for name in files.names),
        "version": digest,
        "live": store.manifest().tasks.get(task) == digest,
        "pinned": digest in store.pins(),
        "versions": store.versions(task),
    }


def prefix(store: StoreReader, digest: str, backbone: Backbone) -> dict[str, Any]:
    """Return how many tokens all responses of a version share, and the memory that their keys and values take.

    Nothing where the backbone reads no prefixes.
    """
    if not backbone.spec.prefix_layers:
        return {}
    tokens = len(prefix_of(PackageFiles(store.package_folder(digest)).task, backbone))
    padded = padded_prefix(tokens)
    sizes = {name: backbone.spec.prefix_bytes(padded, size) for name, size in (("float32", 4), ("bfloat16", 2))}
    return {"prefix": {"tokens": tokens, **({"padded_to": padded, "bytes": sizes} if tokens else {})}}


def trace(store: StoreReader, digest: str, backbone: Backbone, response: str) -> dict[str, Any]:
    """Return what a version makes of a response: its text or the two of a pair, its tokens, and what is cut off."""
    rendered = PackageFiles(store.package_folder(digest)).task.render(response)
    texts = (rendered,) if isinstance(rendered, str) else rendered.texts
    traced = backbone.tokenizer.trace(rendered)
    return {
        **dict(zip(("text",) if len(texts) == 1 else ("first", "second"), texts, strict=True)),
        "tokens": traced.tokens,
        "max_tokens": backbone.spec.max_tokens,
        "cut": traced.cut,
    }


def _kind(files: PackageFiles) -> str:
    config, tensors = files.config, files.tensors
    kind = "rsLoRA" if config.use_rslora else "LoRA"
    if config.use_dora:
        kind = f"DoRA ({kind})" if config.use_rslora else "DoRA"
    biased = any(".lora_B.bias" in name or name.endswith(".base_layer.bias") for name in tensors.shapes)
    return f"{kind} with biases" if biased else kind
