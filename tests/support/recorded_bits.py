"""Digests of scores by model, arithmetic and library versions; `tests/parity/bits.json` keeps them.

python tests/support/recorded_bits.py [FOLDER…]      compute and record, under every instruction set that can be chosen

Where `qemu-x86_64` is installed, float32 is computed in emulated processors without AVX-512, too. A FOLDER is a
further repository with a backbone and a store, such as MiniLM's with the example adapters. The small backbones never
change: they are in tests/parity/bits, and their adapters are drawn from a generator whose numbers are frozen. Record
the names of arithmetics first (`recorded_probes.py`).
"""

import hashlib
import json
import os
import random
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from arithmetic import EMULATED, emulator
from making import WORDS
from recorded_probes import LIMITS
from scoremux_engine import Engine
from scoremux_engine.errors import RunnerError
from scoremux_engine.model.backbone import Backbone, BackboneSpec, Site
from scoremux_engine.model.provenance import processor_name
from scoremux_engine.runners.choose import DEFAULT, ON_CPU, RunnerChoice
from scoremux_engine.store.store import Store
from scoremux_export.measure import measure

RECORD = Path(__file__).parents[1] / "parity" / "bits.json"
MODELS = RECORD.with_name("bits")
SMALL = ("encoder", "decoder")

_NUMPY_AVX2 = {
    "OPENBLAS_CORETYPE": "Haswell",
    "NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL",
}
"""What keeps NumPy from AVX-512, too."""
_LIBRARIES = {"openvino": ("openvino", "numpy"), "onnxruntime": ("onnxruntime", "numpy")}
_OUTPUTS = ("LEVEL", "SCORE", "PROBABILITIES", "TOKENS", "EMBEDDING")
_RANKS = (4, 8, 16, 1, 64, 24, 256, 3, 70)
_LEVELS = (5, 2, 3, 9, 20, 8)
_KINDS: tuple[dict[str, Any], ...] = ({}, {"use_rslora": True}, {"use_dora": True}, {"lora_bias": True})
_QUESTION = " ".join(WORDS)
_INPUTS: tuple[dict[str, Any], ...] = (
    {},
    {"first": "{question}", "second": "{response}"},
    {"template": "{question} {response}"},
)


@dataclass
class Bits:
    """What one runner computes of one model (of SMALL, or of a folder): a digest of all rows' outputs, and where."""

    model: str
    backbone: str
    arithmetic: str
    libraries: str
    scores: str
    processors: list[str]

    @property
    def key(self) -> tuple[str, str, str, str]:
        return self.model, self.backbone, self.arithmetic, self.libraries


def read_record() -> dict[tuple[str, ...], Bits]:
    entries = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else []
    return {bits.key: bits for bits in (Bits(**entry) for entry in entries)}


def compute(limit: str, places: Sequence[str | Path] = SMALL, within: Sequence[str] = ()) -> list[Bits]:
    """Return the bits of small models (of SMALL) or of folders, computed in a process of its own.

    limit: one of LIMITS; within: what the command is run by, such as `emulator()`: float32 in OpenVINO alone.
    """
    words = [*(["--float32"] if within else []), *map(str, places)]
    done = subprocess.run(
        [*within, sys.executable, __file__, "--print", *words],
        env={**os.environ, "ONEDNN_MAX_CPU_ISA": limit, **(_NUMPY_AVX2 if limit == "AVX2" else {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL if within else None,
        text=True,
        check=True,
    )
    return [Bits(**json.loads(line)) for line in done.stdout.splitlines()]


def unpack(model: str, folder: Path) -> Path:
    """Write a small model with adapters of many kinds, sites, ranks and heads as a repository."""
    with tarfile.open(MODELS / f"{model}.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    # The archives are of a version that measured nothing at an export.
    backbone, store = Backbone.open(folder / "backbone" / "1"), Store(folder / "store")
    measure(backbone)
    inputs = _INPUTS[: 2 + bool(backbone.spec.prefix_layers)]
    made = []
    for n in range(18):
        task = {"id": f"t-{n}", "question": _QUESTION, "levels": list(range(_LEVELS[n % len(_LEVELS)]))}
        if given := inputs[n % len(inputs)]:
            task["input"] = given
        rank, kind = _RANKS[n % len(_RANKS)], _KINDS[n % len(_KINDS)]
        made.append(_write_adapter(folder / "adapters" / f"t-{n}", backbone.spec, n, rank, kind, task))
    store.add(made, backbone)
    return folder


def rows_of(engine: Engine) -> tuple[list[str], list[str]]:
    """Return texts of many lengths and their tasks."""
    draw, longest = random.Random(7), min(128, engine.backbone.spec.max_tokens)
    tasks = sorted(engine.bank.tasks) * 3
    return [" ".join(draw.choices(WORDS, k=round(longest ** draw.random()))) for _ in tasks], tasks


def main(choices: Sequence[RunnerChoice], places: Sequence[Path]) -> None:
    """Print the bits of each runner, a line each."""
    with tempfile.TemporaryDirectory() as scratch:
        for place in places:
            if str(place) in SMALL:
                place = unpack(str(place), Path(scratch) / place)
            for choice in choices:
                try:
                    engine = Engine.open(place, runner=choice)
                except RunnerError:
                    continue  # this processor does not compute it
                values = hashlib.sha256()
                columns = engine.score_columns(*rows_of(engine), embeddings=True)
                for name in _OUTPUTS:
                    values.update(np.ascontiguousarray(columns[name]).tobytes())
                libraries = " ".join(f"{name} {version(name)}" for name in _LIBRARIES[choice.name])
                named = place.name, engine.backbone.spec.digest, engine.arithmetic, libraries, values.hexdigest()
                print(json.dumps(asdict(Bits(*named, [processor_name().partition(" (oneDNN")[0]]))))


def _write_adapter(
    folder: Path, spec: BackboneSpec, seed: int, rank: int, kind: dict[str, Any], task: dict[str, Any]
) -> Path:
    from safetensors.numpy import save_file

    draw, prefix = np.random.RandomState(seed), "base_model.model."  # RandomState: its numbers never change

    def tensor(scale: float, *shape: int) -> npt.NDArray[np.float32]:
        return (draw.standard_normal(shape) * scale).astype(np.float32)

    tensors: dict[str, npt.NDArray[np.float32]] = {}
    for number, site in enumerate(spec.sites):
        if number % 3 == seed % 3 and seed % 2:
            continue  # half of the adapters leave sites out
        tensors |= _site_tensors(site, rank, kind, f"{prefix}{site.name}", tensor)
    for linear in spec.head:
        width = linear.d_out or len(task["levels"])
        tensors[f"{prefix}{linear.name}.weight"] = tensor(0.5, width, linear.d_in)
        if linear.bias:
            tensors[f"{prefix}{linear.name}.bias"] = tensor(0.5, width)
    folder.mkdir(parents=True)
    config = {"peft_type": "LORA", "task_type": "SEQ_CLS", "r": rank, "lora_alpha": 2 * rank, "bias": "none", **kind}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    (folder / "task.json").write_text(json.dumps(task))
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


def _site_tensors(site: Site, rank: int, kind: dict[str, Any], name: str, tensor: Any) -> dict[str, Any]:
    tensors = {
        f"{name}.lora_A.weight": tensor(site.d_in**-0.5, rank, site.d_in),
        f"{name}.lora_B.weight": tensor(0.3 * rank**-0.5, site.d_out, rank),
    }
    if kind.get("use_dora"):
        tensors[f"{name}.lora_magnitude_vector"] = np.abs(tensor(0.1, site.d_out)) + np.float32(0.5)
    if kind.get("lora_bias"):
        tensors[f"{name}.lora_B.bias"] = tensor(0.1, site.d_out)
    return tensors


def everywhere(folders: list[Path]) -> Iterator[list[Bits]]:
    """Yield the bits of the small models and of `folders`, under each limit and in each emulated processor."""
    for places in (SMALL, folders) if folders else (SMALL,):
        for limit in LIMITS:
            yield compute(limit, places)
        for processor in EMULATED if emulator() else ():
            emulated = compute("", places, emulator(processor))
            yield [replace(bits, processors=[f"emulated {processor}"]) for bits in emulated]


def record(folders: list[Path]) -> None:
    """Compute all, and add what was found at once; digests that differ from recorded ones are an error."""
    recorded = read_record()
    for several in everywhere(folders):
        for bits in several:
            before = recorded.setdefault(bits.key, bits)
            if before.scores != bits.scores:
                raise SystemExit(f"{' '.join(bits.key)} has other bits here")
            before.processors = sorted({*before.processors, *bits.processors})
        entries = [asdict(bits) for _, bits in sorted(recorded.items())]
        RECORD.write_text("[\n" + ",\n".join(json.dumps(entry) for entry in entries) + "\n]\n", encoding="utf-8")


if __name__ == "__main__":
    options, paths = [w for w in sys.argv[1:] if w.startswith("--")], [Path(w) for w in sys.argv[1:] if w[:2] != "--"]
    if "--print" in options:
        main((DEFAULT,) if "--float32" in options else ON_CPU, paths)
    else:
        record(paths)
