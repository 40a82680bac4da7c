"""Float32 of every family in OpenVINO, up to 512 tokens: on emulated processors, on this one, and as recorded.

`one_arithmetic.json` has a digest for each exported graph, so that a processor without AVX-512 is compared with one
that has it. A graph that another version of torch wrote is not in it: then what is computed is added.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from arithmetic import EMULATED, LIMITS, digests, emulator
from families import FAMILIES, make_family
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.model.provenance import processor_name
from scoremux_export.export_graph import export_backbone
from scoremux_export.opening.openable import Opening
from waiting import Result, Scaled

RECORD = Path(__file__).with_name("one_arithmetic.json")
PARTS = 4
WIDE: dict[str, tuple[str, dict[str, Any]]] = {
    "bert, K = 3,072": ("bert", {"intermediate_size": 3072}),
    "qwen3, K = 4,096": ("qwen3", {"intermediate_size": 4096}),
}
MODELS = {**{name: (name, dict[str, Any]()) for name in FAMILIES}, **WIDE}


@pytest.mark.skipif(not emulator(), reason="there is no qemu-x86_64 (Debian's package qemu-user)")
@pytest.mark.parametrize("processor", EMULATED)
@pytest.mark.parametrize("model", MODELS)
def test_float32_is_one_arithmetic(model: str, processor: str, tmp_path: Path, scaled: Scaled, result: Result) -> None:
    (family, options), mixes = MODELS[model], scaled(30)
    source = make_family(family, tmp_path / "source", max_position_embeddings=514, **options)
    export_backbone(str(source), Opening(FAMILIES[family].sites, dora=True, bias=True), tmp_path)
    backbone = tmp_path / "backbone" / "1"
    other = sum(count_differences(backbone, mixes, processor, part) for part in range(PARTS))
    what = f"{model}, {PARTS * mixes} mixes of ranks 1–256 and 8–512 tokens, emulated {processor} and this processor"
    result(f"{what}: other bits", str(other))
    assert other == 0


def count_differences(backbone: Path, mixes: int, processor: str, part: int) -> int:
    """Return how many mixes have other bits somewhere, or 1 if all have other bits than recorded."""
    here = [digests(backbone, limit, mixes, 512, seed=part) for limit in LIMITS]
    there = digests(backbone, "", mixes, 512, emulator(processor), seed=part)
    differing = sum(len({*bits}) > 1 for bits in zip(*here, there, strict=True))
    return differing or int(differs_from_record(backbone, f"{part} {mixes}", here[-1]))


def differs_from_record(backbone: Path, mixes: str, bits: list[str]) -> bool:
    record = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
    key, digest = f"{Backbone.open(backbone).spec.digest} {mixes}", hashlib.sha256(" ".join(bits).encode()).hexdigest()
    recorded = record.setdefault(key, {"digest": digest, "processor": processor_name()})
    RECORD.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return bool(recorded["digest"] != digest)
