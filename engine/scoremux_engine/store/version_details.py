"""The details of a version of a task that `tasks show` prints."""

from typing import Any

from scoremux_engine.model.backbone import Backbone
from scoremux_engine.packages.adapter_tables import PREFIX
from scoremux_engine.packages.package_files import PackageFiles
from scoremux_engine.store.reader import StoreReader


def summarise(store: StoreReader, task: str, digest: str) -> dict[str, Any]:
    """Return task.json, the adapter's kind, ranks, sites and bytes, and the task's versions. Raises PackageError."""
    files = store.files(digest)
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
        "versions": store.versions(task),
    }


def trace(store: StoreReader, digest: str, backbone: Backbone, response: str) -> dict[str, Any]:
    """Return a version's reading of a response: its text or the two of a pair, its tokens, and what is cut off."""
    rendered = store.files(digest).task.render(response)
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
