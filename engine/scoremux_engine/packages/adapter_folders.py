"""Folders of adapters as PEFT saves them: which there are, what they were trained on, and what they change of it."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from scoremux_engine.errors import PackageError
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.packages.adapter_tables import PREFIX
from scoremux_engine.packages.package_files import CONFIG_JSON, TENSORS, PackageFiles
from scoremux_files.settings import quote, quote_key

BASE = "base_model_name_or_path"
README, WEIGHTS = "README.md", "base_model_sha256"
"""A file of an adapter, and the key in its front matter that has the sha256 of the base model's safetensors."""

_LORA_PARTS = (
    ".lora_A.weight", ".lora_B.weight", ".lora_B.bias", ".lora_magnitude_vector", ".lora_magnitude_vector.weight",
)  # fmt: skip
_README_LETTERS = 1 << 16
_FRONT_MATTER = re.compile(r"\A---\r?\n(.*?)^---\s*$", re.DOTALL | re.MULTILINE)
_WEIGHTS_LINE = re.compile(rf"^{WEIGHTS}:(.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Adapter:
    """The description of one adapter, and the modules that its tensors change.

    The tensors are named after the modules that PEFT chose, whatever form `target_modules`, `layers_to_transform` and
    the other keys that choose had.

    folder: its folder.
    base, revision: the base model by name, and its version on the hub, "" where the adapter does not say; weights: the
    sha256 of that model's safetensors, "" where it does not say.
    sites: modules with LoRA; saved: modules saved whole.
    dora, bias: whether it has magnitudes, and biases of the sites.
    """

    folder: Path
    base: str
    revision: str
    weights: str
    sites: tuple[str, ...]
    saved: tuple[str, ...]
    dora: bool
    bias: bool

    @classmethod
    def read(cls, folder: Path) -> "Adapter":
        """Read the configuration and the tensors' names. Raises PackageError naming file and key."""
        files, path = PackageFiles(folder), folder / TENSORS
        config, names = files.config, sorted(files.tensors.shapes)
        lora = {name: _lora_part(path, name) for name in names if ".lora_" in name}
        sites = sorted({_module(path, name, part) for name, part in lora.items()})
        if not sites:
            raise PackageError(f"{path} has no LoRA tensors; a merged model is not an adapter")
        saved, bias = set(), ".lora_B.bias" in lora.values()
        for name in names:
            if name in lora:
                continue
            module, _, part = _module(path, name).rpartition(".")
            if part == "bias" and module.removesuffix(".base_layer") in sites:
                bias = True
            else:
                saved.add(module)
        dora = config.use_dora or any("magnitude" in part for part in lora.values())
        base, revision = config.base_model_name_or_path, config.revision
        return cls(folder, base, revision, _weights(folder), tuple(sites), tuple(sorted(saved)), dora, bias)


def find_adapters(folders: Sequence[Path]) -> list[Path]:
    """Return the adapters among some folders, and those inside the others.

    Hidden folders inside are left out: what a killed writer left. Raises PackageError
    for a folder that is not an adapter and does not hold one.
    """
    adapters: dict[Path, Path] = {}
    for folder in folders:
        inside = [folder]
        if not (folder / CONFIG_JSON).exists():
            inside = sorted(p.parent for p in folder.glob(f"*/{CONFIG_JSON}") if not p.parent.name.startswith("."))
        if not inside:
            why = f"neither it nor a folder in it has {CONFIG_JSON}" if folder.is_dir() else "it does not exist"
            raise PackageError(f"{folder} is not an adapter and does not hold one: {why}")
        adapters.update({adapter.resolve(): adapter for adapter in inside})
    return list(adapters.values())


def same_model(first: str, second: str) -> bool:
    """Whether two names mean the same model: equal names, one folder, or a hub id and a folder called as it is.

    A folder is called as the hub id `owner/name` if its name is `name`, or if it is in the hub's cache.
    """
    if first == second:
        return True
    folders = [name for name in (first, second) if Path(name).is_dir()]
    if len(folders) == 2:
        return Path(first).resolve() == Path(second).resolve()
    if not folders:
        return False
    folder, (owner, _, name) = Path(folders[0]), (second if folders[0] == first else first).partition("/")
    return bool(owner and name) and (folder.resolve().name == name or f"models--{owner}--{name}" in folder.parts)


def is_export_of(backbone: Backbone, folder: Path, base: str) -> bool:
    """Whether a backbone may be an export of the model that an adapter names; it has the name alone of a folder.

    Raises PackageError where both have the digest of the weights, and these differ.
    """
    exported, weights = backbone.spec.weights, _weights(folder)
    if weights and exported and weights != exported:
        raise PackageError(
            f"{folder / README}: {WEIGHTS} is {weights}, and the backbone is an export of {exported}: the adapter was "
            "trained on another model"
        )
    source = backbone.spec.source
    return bool(weights and exported) or source == Path(base).name or same_model(base, source)


def other_bases(adapters: Iterable[PackageFiles], backbone: Backbone) -> list[str]:
    """Return a sentence for each base model that adapters name beside the one exported: nothing else shows it."""
    exported = backbone.spec.source
    named = [(adapter.config.base_model_name_or_path, adapter.path) for adapter in adapters]
    bases = Counter(base for base, folder in named if not is_export_of(backbone, folder, base))
    return [
        f"{count} of the adapters say that they were trained on {quote_key(base)}, and the backbone is an export "
        f"of {quote_key(exported)}: scores are right only if both have the same weights"
        for base, count in bases.items()
        if base
    ]


def _lora_part(path: Path, name: str) -> str:
    part = next((part for part in _LORA_PARTS if name.endswith(part)), None)
    if part is None:
        raise PackageError(f"{path}: {quote_key(name)} is of a kind that is not served; target_modules must be Linears")
    return part


def _module(path: Path, name: str, part: str = "") -> str:
    if not name.startswith(PREFIX):
        raise PackageError(f"{path}: {quote_key(name)} does not begin with {PREFIX}; save the adapter with PEFT")
    return name.removeprefix(PREFIX).removesuffix(part)


def _weights(folder: Path) -> str:
    """Return the digest of the base model's weights in README.md."""
    path = folder / README
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            front = _FRONT_MATTER.match(file.read(_README_LETTERS))
    except OSError:
        return ""
    line = front and _WEIGHTS_LINE.search(front[1])
    if not line:
        return ""
    value = line[1].strip().strip("\"'")
    if not re.fullmatch("[0-9a-f]{64}", value):
        raise PackageError(f"{path}: {WEIGHTS} is {quote(value)}, which is not a sha256")
    return value
