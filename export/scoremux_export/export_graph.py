"""`scoremux export backbone`: open, export, prove, publish."""

import platform
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from scoremux_engine.backend.models import write_scorer
from scoremux_engine.model.backbone import (
    ONNX,
    SITES,
    SPEC,
    TOKENIZER,
    Backbone,
    BackboneSpec,
    Parity,
    Site,
)
from scoremux_engine.packages.adapter_folders import Adapter
from scoremux_engine.runners.onnxruntime import OnnxRuntimeRunner
from scoremux_engine.runners.runner import BackboneRunner
from scoremux_engine.store.reader import StoreReader
from scoremux_export.errors import ExportError, ModelError
from scoremux_export.measure import measure
from scoremux_export.opening.base import weights_digest
from scoremux_export.opening.classifier import Classifier, copy_of
from scoremux_export.opening.graph import ONE_FILE_BYTES, write_graph
from scoremux_export.opening.openable import Opening, opening_for
from scoremux_export.opening.opened import OpenedModel
from scoremux_export.opening.parity import prove
from scoremux_export.opening.prefix import find_prefix_layers
from scoremux_files.atomic import replacing_folder
from scoremux_files.digests import file_digest
from scoremux_files.errors import writing
from scoremux_files.locks import locked


def export_backbone(
    source: str,
    opening: Opening | Sequence[Adapter],
    repository: Path,
    make_runner: Callable[[Backbone], BackboneRunner] = OnnxRuntimeRunner,
    *,
    max_tokens: int | None = None,
    report: Callable[[str], None] = lambda _: None,
    one_file_bytes: int = ONE_FILE_BYTES,
) -> Backbone:
    """Export a model into ``repository/backbone/1``, replacing what was there only once the proof has passed.

    Args:
        opening: The Linears that take LoRA; or adapters of this model, for which those that they need are opened.
        make_runner: Returns the runner that the proof runs the graph with.
        report: Is called with a sentence about each precision (`measure`).

    Raises:
        ModelError: The model cannot be exported.
        ParityError: The graph does not give PEFT's logits.
        ExportError: The repository cannot be written to, or its store belongs to another backbone.
            After each of these the repository is as it was.
    """
    classifier = Classifier.open(source, max_tokens)
    if not isinstance(opening, Opening):
        # The adapters' name of the model, wherever its weights were.
        source, opening = opening[0].base or source, opening_for(opening, classifier.model)
    sites, head = opening.describe(classifier.model)
    prefix_layers = find_prefix_layers(classifier.model)
    classifier.refuse_random(head)
    target, store = repository / "backbone" / "1", repository / "store"
    with writing(repository, ExportError):
        repository.mkdir(parents=True, exist_ok=True)
    with writing(repository, ExportError), locked(repository / ".export.lock"), replacing_folder(target) as folder:
        _save_site_tensors(classifier.model, sites, folder / SITES)
        original = copy_of(classifier.model)  # for the proof
        opened = OpenedModel(classifier.model, sites, head, classifier.pad_id, prefix_layers)
        tokens = classifier.max_tokens, classifier.token_types
        pooled_size = write_graph(opened, folder / ONNX, *tokens, one_file_bytes)
        classifier.words().save(str(folder / TOKENIZER))
        spec = _describe(source, classifier, opened, folder, pooled_size)
        _refuse_other_store(store, spec.digest)
        candidate = Backbone(folder, spec)
        runner = make_runner(candidate)
        for sentence in measure(candidate, runner):
            report(sentence)
        parity = prove(original, candidate, runner, opening)
        spec = candidate.spec.model_copy(update={"parity": parity})
        (folder / SPEC).write_text(spec.model_dump_json(indent=1) + "\n", encoding="utf-8")
        write_scorer(repository)
    return Backbone.open(target)


def _describe(source: str, classifier: Classifier, opened: OpenedModel, folder: Path, pooled_size: int) -> BackboneSpec:
    """Return the description of the files in `folder` (`backbone.json`), before the proof."""
    weights = ""
    with suppress(ModelError):  # files of other names have them, such as a conversion that the hub keeps elsewhere
        weights = weights_digest(classifier.source)
    spec = BackboneSpec(
        architecture=type(classifier.model).__name__,
        source=Path(source).name if Path(source).exists() else source,
        weights=weights,
        sites=opened.sites,
        head=opened.head,
        max_tokens=classifier.max_tokens,
        pad_id=classifier.pad_id,
        token_types=classifier.token_types,
        pooled_size=pooled_size,
        prefix_layers=opened.prefix_layers,
        parity=Parity(rows=0, max_abs_logit_difference=0.0),
        made_with=_versions(),
        files={path.name: file_digest(path) for path in sorted(folder.iterdir())},
    )
    return spec.model_copy(update={"digest": spec.own_digest()})


def _save_site_tensors(model: nn.Module, sites: tuple[Site, ...], path: Path) -> None:
    """Write the tensors that variants need: weights for DoRA's norms, biases that `lora_only` replaces."""
    tensors = {}
    for site in sites:
        state = model.get_submodule(site.name).state_dict()
        if site.dora:
            tensors[f"{site.name}.weight"] = state["weight"].contiguous()
        if site.bias:
            tensors[f"{site.name}.bias"] = state.get("bias", torch.zeros(site.d_out))
    if tensors:
        save_file(tensors, path)


def _refuse_other_store(store: Path, digest: str) -> None:
    """Raise ExportError where the repository has a store of another backbone."""
    reader = StoreReader(store)
    if reader.stamp() and (other := reader.manifest().backbone) != digest:
        raise ExportError(
            f"{store} belongs to backbone {other[:12]}, and this export is backbone {digest[:12]}: its tasks cannot be "
            f"served with it. Export into another repository, or move the store away: mv {store} {store}-{other[:12]}"
        )


def _versions() -> dict[str, str]:
    packages = ("torch", "transformers", "peft", "onnx", "onnxscript", "onnxruntime")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}
