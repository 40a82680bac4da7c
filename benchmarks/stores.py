"""Repositories to measure on: MiniLM with the example adapters, with made-up ones, or with many copies."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from benchmarks import data
from benchmarks.case import data_folder
from benchmarks.child import call_aside, checkout_environment
from benchmarks.rows import ROOT, commit
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.packages.package_files import CONFIG_JSON, TASK_JSON, TENSORS
from scoremux_engine.store.manifest import Manifest
from scoremux_files.atomic import replace_file
from scoremux_files.digests import digest_of, file_digest, set_digest

UNIFORM, MIXED = (8,), (4, 8, 16, 32, 64)
"""Ranks."""
ONE_FILES_LINKS = 10_000
"""A file system takes so many hard links to a file, and more."""
Rows = list[tuple[str, str]]
"""(task, text) of responses."""


def export(repository: str | Path) -> None:
    """Export MiniLM into `repository` unless it is there."""
    export_once(str(data.minilm()), "query,value", Path(repository))


def export_once(source: str, sites: str, repository: Path, max_tokens: int | None = None) -> None:
    """Export a model unless that is done."""
    from scoremux_export.export_graph import export_backbone
    from scoremux_export.opening.openable import Opening

    if not (repository / "backbone" / "1" / "backbone.json").exists():
        export_backbone(source, Opening(sites), repository, max_tokens=max_tokens)


def publish(repository: str | Path, adapters: Sequence[str | Path] | None = None) -> None:
    """Export MiniLM into `repository` unless it is there, and publish adapters (by default the 27) into its store."""
    from scoremux_engine.store.store import Store

    export(repository)
    folders = [Path(folder) for folder in adapters or data.example_adapters()]
    Store(Path(repository) / "store").add(folders, Backbone.open(Path(repository) / "backbone" / "1"))


def make_all_linear(work: Path) -> Path:
    """Return a folder with `adapters` and `repository` of `publish_all_linear`, made unless it is there."""
    folder = work.absolute() / "all-linear"
    if not (folder / "repository" / "store" / "manifest.json").exists():
        call_aside("benchmarks.stores:publish_all_linear", folder)
    return folder


def publish_all_linear(folder: str | Path) -> None:
    """Write `adapters`, the 27 with seeded random weights on all Linears, and publish them into `repository`."""
    from safetensors.numpy import load_file, save_file

    from scoremux_engine.store.store import Store

    adapters, repository = Path(folder) / "adapters", Path(folder) / "repository"
    export_once(str(data.minilm()), "all-linear", repository)
    backbone, draw = Backbone.open(repository / "backbone" / "1"), np.random.default_rng(0)
    shapes = {
        f"base_model.model.{site.name}.{part}.weight": shape
        for site in backbone.spec.sites
        for part, shape in (("lora_A", (UNIFORM[0], site.d_in)), ("lora_B", (site.d_out, UNIFORM[0])))
    }
    for example in data.example_adapters():
        adapter = adapters / example.name
        adapter.mkdir(parents=True, exist_ok=True)
        (adapter / TASK_JSON).write_bytes((example / TASK_JSON).read_bytes())
        config = json.loads((example / CONFIG_JSON).read_bytes())
        config["target_modules"] = [site.name for site in backbone.spec.sites]
        (adapter / CONFIG_JSON).write_text(json.dumps(config), encoding="utf-8")
        head = {name: part for name, part in load_file(example / TENSORS).items() if ".lora_" not in name}
        drawn = {name: draw.normal(0, 0.02, shape).astype(np.float32) for name, shape in shapes.items()}
        save_file({**head, **drawn}, adapter / TENSORS)
    Store(repository / "store").add(sorted(adapters.iterdir()), backbone)


def pool_of(corpus: str) -> Rows:
    """Return (task, text) of a corpus."""
    return [(row.task, row.text) for row in data.read_rows(data_folder(corpus), "train")]


def make_store(
    work: Path,
    corpus: str = "SAF",
    ranks: Sequence[int] = UNIFORM,
    checkout: Path = ROOT,
) -> Path:
    """Export and publish with a checkout's own code, into a folder of `work`, unless that is done; return it.

    The example adapters are taken for SAF at rank 8, made-up ones otherwise.
    """
    name = "-".join([corpus.strip("/").rpartition("/")[2].lower(), commit(checkout), *map(str, ranks)])
    repository, folders = work / name, None
    if (repository / "store" / "manifest.json").exists():
        return repository
    if corpus != "SAF" or tuple(ranks) != UNIFORM:
        folders = data.made_up_adapters(data_folder(corpus), work.absolute() / f"{name}-tasks", ranks)
    environment = checkout_environment(checkout)
    exported = work / f"exported-{commit(checkout)}"
    call_aside("benchmarks.stores:export", exported.absolute(), environment=environment)
    shutil.copytree(exported / "backbone", repository / "backbone", dirs_exist_ok=True)
    paths = [str(folder) for folder in folders] if folders else None
    call_aside("benchmarks.stores:publish", repository.absolute(), paths, environment=environment)
    return repository


def store_of(tasks: int, work: Path) -> Path:
    """Return a repository with the example adapters' backbone and so many tasks; 27: the examples themselves.

    Packages have a task.json of their own and share the tensors of an example, by hard links.
    """
    repository = work / f"tasks-{tasks}"
    if (repository / "store" / "manifest.json").exists():
        return repository
    examples = make_store(work)
    if tasks == len(data.example_adapters()):
        return examples
    (repository / "store" / "packages").mkdir(parents=True)
    (repository / "backbone").symlink_to((examples / "backbone").resolve())
    adapters, live = data.example_adapters(), {}
    digest = cache(file_digest)
    for number in range(tasks):
        adapter = adapters[number % len(adapters)]
        files = repository / "files" / f"{adapter.name}-{number // len(adapters) // ONE_FILES_LINKS}"
        if not files.is_dir():
            files.mkdir(parents=True)
            for name in (CONFIG_JSON, TENSORS):
                (files / name).write_bytes((adapter / name).read_bytes())
        task = f"task-{number:06}"
        described = json.dumps({**json.loads((adapter / TASK_JSON).read_bytes()), "id": task}).encode()
        known = {name: digest(files / name) for name in (CONFIG_JSON, TENSORS)}
        live[task] = set_digest({**known, TASK_JSON: digest_of([described])})
        package = repository / "store" / "packages" / live[task]
        package.mkdir()
        (package / TASK_JSON).write_bytes(described)
        for name in known:
            os.link(files / name, package / name)
    backbone = Backbone.open(repository / "backbone" / "1")
    manifest = Manifest(backbone=backbone.spec.digest, tasks=live)
    replace_file(repository / "store" / "manifest.json", [manifest.to_json()])
    return repository
