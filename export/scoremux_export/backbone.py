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

from torch import nn

from scoremux_engine.backbone import ONNX, SPEC, TOKENIZER, Backbone, BackboneSpec, HeadLinear, Parity, Site
from scoremux_engine.digests import file_digest
from scoremux_engine.runners.onnxruntime import OnnxRuntimeRunner
from scoremux_engine.runners.runner import BackboneRunner
from scoremux_export.encoder import Encoder
from scoremux_export.errors import ExportError
from scoremux_export.graph import write_graph
from scoremux_export.opened import OpenedModel
from scoremux_export.parity import prove
from scoremux_export.sites import find_sites, head_linears


def export_backbone(
    source: str,
    wanted_sites: str,
    repository: Path,
    make_runner: Callable[[Backbone], BackboneRunner] = OnnxRuntimeRunner,
) -> Backbone:
    """Export `source` into ``repository/backbone/1``, replacing what was there only once the proof has passed.

    make_runner: what the proof runs the graph with.
    Raises ModelError, ParityError or ExportError; then nothing has changed.
    """
    encoder = Encoder.open(source)
    sites, head = describe(encoder.model, wanted_sites)
    with _aside(repository / "backbone") as folder:
        # The proof needs the model as it was.
        original = copy.deepcopy(encoder.model)
        opened = OpenedModel(encoder.model, find_sites(encoder.model, wanted_sites), head_linears(encoder.model))
        write_graph(opened, sites, head, encoder.max_tokens, folder / ONNX)
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
            files={name: file_digest(folder / name) for name in (ONNX, TOKENIZER)},
        )
        candidate = Backbone(folder, spec)
        proof = prove(original, candidate, make_runner(candidate))
        spec = spec.model_copy(update={"parity": proof})
        spec = spec.model_copy(update={"digest": spec.own_digest()})
        (folder / SPEC).write_text(spec.model_dump_json(indent=1) + "\n", encoding="utf-8")
        return Backbone.open(_publish(folder))


def describe(model: nn.Module, wanted_sites: str) -> tuple[tuple[Site, ...], tuple[HeadLinear, ...]]:
    """Return the sites and the head's Linears with their widths; the last Linear of the head has the task's width."""
    found = find_sites(model, wanted_sites)
    sites = tuple(Site(name=n, d_in=m.in_features, d_out=m.out_features) for n, m in found.items())
    linears = head_linears(model)
    last = list(linears)[-1]
    head = tuple(
        HeadLinear(name=n, d_in=m.in_features, d_out=None if n == last else m.out_features) for n, m in linears.items()
    )
    return sites, head


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
    """Put the finished folder where the server looks: version 1 of the model `backbone`."""
    target, old = folder.parent / "1", folder.parent / f"{folder.name}-old"
    folder.chmod(0o755)
    if target.exists():
        target.rename(old)
    folder.rename(target)
    shutil.rmtree(old, ignore_errors=True)
    return target


def _versions() -> dict[str, str]:
    packages = ("torch", "transformers", "peft", "onnx", "onnxscript", "onnxruntime")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}
