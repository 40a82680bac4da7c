"""`scoremux export backbone`: open, export, prove, publish."""

from __future__ import annotations

import copy
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from scoremux_engine.backbone import ONNX, SITES, SPEC, TOKENIZER, Backbone, BackboneSpec, Parity, Site
from scoremux_engine.digests import file_digest
from scoremux_engine.runners.onnxruntime import OnnxRuntimeRunner
from scoremux_engine.runners.runner import BackboneRunner
from scoremux_engine.triton_models import write_scorer
from scoremux_export.encoder import Encoder
from scoremux_export.errors import ExportError
from scoremux_export.graph import write_graph
from scoremux_export.opened import OpenedModel
from scoremux_export.opening import Opening
from scoremux_export.parity import prove


def export_backbone(
    source: str,
    opening: Opening,
    repository: Path,
    make_runner: Callable[[Backbone], BackboneRunner] = OnnxRuntimeRunner,
) -> Backbone:
    """Export `source` into ``repository/backbone/1``, replacing what was there only once the proof has passed.

    make_runner: what the proof runs the graph with.
    Raises ModelError, ParityError or ExportError; then nothing has changed.
    """
    encoder = Encoder.open(source)
    sites, head = opening.describe(encoder.model)
    with _aside(repository / "backbone") as folder:
        _save_site_tensors(encoder.model, sites, folder / SITES)
        # The proof needs the model as it was.
        original = copy.deepcopy(encoder.model)
        write_graph(OpenedModel(encoder.model, sites, head), sites, head, encoder.max_tokens, folder / ONNX)
        encoder.save_tokenizer(folder / TOKENIZER)
        spec = BackboneSpec(
            architecture=type(original).__name__,
            source=Path(source).name if Path(source).exists() else source,
            sites=sites,
            head=head,
            max_tokens=encoder.max_tokens,
            pad_id=encoder.pad_id,
            parity=Parity(rows=0, max_abs_logit_difference=0.0),
            made_with=_versions(),
            files={path.name: file_digest(path) for path in sorted(folder.iterdir())},
        )
        candidate = Backbone(folder, spec)
        proof = prove(original, candidate, make_runner(candidate), opening)
        spec = spec.model_copy(update={"parity": proof})
        spec = spec.model_copy(update={"digest": spec.own_digest()})
        (folder / SPEC).write_text(spec.model_dump_json(indent=1) + "\n", encoding="utf-8")
        write_scorer(repository)
        return Backbone.open(_publish(folder))


def _save_site_tensors(model: nn.Module, sites: tuple[Site, ...], path: Path) -> None:
    """Write what the variants' tables are computed from: weights for DoRA's norms, biases that `lora_only` replaces."""
    tensors = {}
    for site in sites:
        own = model.get_submodule(site.name).state_dict()
        if site.dora:
            tensors[f"{site.name}.weight"] = own["weight"].contiguous()
        if site.bias:
            tensors[f"{site.name}.bias"] = own.get("bias", torch.zeros(site.d_out))
    if tensors:
        save_file(tensors, path)


@contextmanager
def _aside(parent: Path) -> Iterator[Path]:
    """Lend a folder beside the published one; whatever is still there afterwards goes."""
    try:
        parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".new-", dir=parent))
    except OSError as error:
        raise ExportError(f"cannot write into {parent}: {error.strerror}") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _publish(folder: Path) -> Path:
    """Put the finished folder where the server looks: version 1 of the model `backbone`.

    Raises ExportError with the folder that was there before back in its place.
    """
    target, old = folder.parent / "1", folder.parent / f"{folder.name}-old"
    try:
        folder.chmod(0o755)
        if target.exists():
            target.rename(old)
        try:
            folder.rename(target)
        except OSError:
            if old.exists():
                old.rename(target)
            raise
    except OSError as error:
        raise ExportError(f"cannot publish {target}: {error.strerror}") from error
    shutil.rmtree(old, ignore_errors=True)
    return target


def _versions() -> dict[str, str]:
    packages = ("torch", "transformers", "peft", "onnx", "onnxscript", "onnxruntime")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}
