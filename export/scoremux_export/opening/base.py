"""The base model of adapters: which it is, and whether the model to export is that one."""

import json
from collections.abc import Sequence
from pathlib import Path

from transformers.utils.hub import cached_file

from scoremux_engine.packages.adapter_folders import BASE, README, WEIGHTS, Adapter, same_model
from scoremux_engine.packages.package_files import CONFIG_JSON
from scoremux_export.errors import ModelError
from scoremux_files.digests import file_digest
from scoremux_files.settings import quote

_ONE, _INDEX = "model.safetensors", "model.safetensors.index.json"


def base_model(adapters: Sequence[Adapter]) -> str:
    """Return the base model that all adapters name. Raises ModelError naming one that names none, or another."""
    first = adapters[0]
    for adapter in adapters:
        path = adapter.folder / CONFIG_JSON
        if not adapter.base:
            raise ModelError(
                f"{path} does not say what it was trained on ({BASE}); name the MODEL, with --same-weights"
            )
        if not same_model(adapter.base, first.base):
            raise ModelError(
                f"{path}: {BASE} is {adapter.base}, and {first.base} in {first.folder}; adapters of one backbone have "
                "one base model"
            )
    return first.base


def refuse_other_base(adapters: Sequence[Adapter], model: str, same_weights: bool) -> None:
    """Check that adapters were trained on a model.

    Args:
        adapters: The digest that they name of the base's weights decides, else the name of the base.
        same_weights: Whether a base of another name has the weights of `model`.

    Raises:
        ModelError: An adapter was trained on another model, or does not say on which.
    """
    digest = weights_digest(model) if any(adapter.weights for adapter in adapters) else ""
    for adapter in adapters:
        config = adapter.folder / CONFIG_JSON
        if adapter.weights:
            if adapter.weights != digest:
                raise ModelError(
                    f"{adapter.folder / README}: {WEIGHTS} is {adapter.weights}, and the weights of {model} have "
                    f"{digest}: the adapter was trained on another model"
                )
        elif same_weights:
            continue
        elif not same_model(adapter.base, model):
            reason = f"{BASE} is {adapter.base}, not {model}" if adapter.base else f"it does not say its {BASE}"
            raise ModelError(
                f"{config}: {reason}; if {model} has the weights that the adapter was trained on, add --same-weights"
            )
        elif adapter.revision not in ("", "main") and not Path(model).is_dir():
            raise ModelError(
                f"{config}: revision is {quote(adapter.revision)}, and {model} would be opened at its newest; download "
                "that revision into a folder, and export the folder with --same-weights"
            )


def weights_digest(model: str) -> str:
    """Return the sha256 of a model's safetensors, as `cat model*.safetensors | sha256sum` prints it."""
    index = _file(model, _INDEX)
    names = sorted({*json.loads(index.read_bytes())["weight_map"].values()}) if index else [_ONE]
    paths = []
    for name in names:
        path = _file(model, name)
        if path is None:
            raise ModelError(f"{model} has no {name}: its weights cannot be compared with those of the adapters")
        paths.append(path)
    return file_digest(*paths)


def _file(model: str, name: str) -> Path | None:
    try:
        path = cached_file(model, name, _raise_exceptions_for_missing_entries=False)
    except OSError as error:
        raise ModelError(f"{model} cannot be opened: {error}") from error
    return Path(path) if path else None
