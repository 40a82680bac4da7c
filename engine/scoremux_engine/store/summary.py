"""What `show` says of one version of a task, read without a backbone."""

from __future__ import annotations

from typing import Any

from scoremux_engine.packages.adapter_config import AdapterConfig
from scoremux_engine.packages.layout import PREFIX
from scoremux_engine.packages.source import CONFIG_JSON, TASK_JSON, TENSORS, Folder
from scoremux_engine.packages.task import MAX_JSON_BYTES, Task
from scoremux_engine.packages.tensor_file import TensorFile
from scoremux_engine.store.reader import StoreReader


def summarise(store: StoreReader, task: str, digest: str) -> dict[str, Any]:
    """Return all of task.json, the adapter's kind, ranks and sites, its bytes, and the task's versions in the store.

    Raises PackageError where the version is damaged.
    """
    with Folder(store.package_folder(digest)).spans() as spans:
        described = Task.parse(spans[TASK_JSON].read_whole(MAX_JSON_BYTES), spans[TASK_JSON].path)
        config = AdapterConfig.parse(spans[CONFIG_JSON].read_whole(MAX_JSON_BYTES), spans[CONFIG_JSON].path)
        file = TensorFile.open(spans[TENSORS])
        size = sum(span.size for span in spans.values())
    ranks = {
        name.removeprefix(PREFIX).removesuffix(".lora_A.weight"): shape[0]
        for name, shape in file.shapes.items()
        if name.endswith(".lora_A.weight") and shape
    }
    return {
        **described.model_dump(mode="json"),
        "adapter": _kind(config, file),
        "ranks": sorted(set(ranks.values())),
        "sites": sorted(ranks),
        "bytes": size,
        "version": digest,
        "live": store.manifest().tasks.get(task) == digest,
        "pinned": digest in store.pins.read(),
        "versions": store.versions(task),
    }


def _kind(config: AdapterConfig, file: TensorFile) -> str:
    kind = "rsLoRA" if config.use_rslora else "LoRA"
    if config.use_dora:
        kind = f"DoRA ({kind})" if config.use_rslora else "DoRA"
    biased = any(".lora_B.bias" in name or name.endswith(".base_layer.bias") for name in file.shapes)
    return f"{kind} with biases" if biased else kind
