"""Names what decides bits, by a measurement: processes with equal digests of one small backbone have one name.

The backbone `probe` has every kind of product, activation, softmax, norm and mean that exported backbones have
(`tests/support/probe_graph.py` writes it). `recorded.json` says which digests have names of their own.
"""

import hashlib
from collections.abc import Callable, Hashable
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from scoremux_engine.model.backbone import Backbone, StrictModel, read_spec
from scoremux_engine.model.buckets import SizeClass
from scoremux_engine.model.tables import Tables, input_shapes
from scoremux_engine.runners.runner import BackboneRunner, Floats, RowInputs

PROBE = Path(__file__).parent / "probe"
RECORDED = PROBE / "recorded.json"
_GROUPS, _SIZE = 3, SizeClass(rank=16, levels=8)
_ROWS_BY_TOKENS = {8: 1, 16: 5, 40: 3, 64: 1, 136: 2, 512: 1}
_SHOWN_DIGITS = 6


class Arithmetic(StrictModel):
    """A recorded arithmetic.

    Attributes:
        libraries: Libraries that returned it, with their versions.
        processors: Processors that returned it; emulated ones begin with "emulated".
    """

    name: str
    digest: str
    libraries: tuple[str, ...]
    processors: tuple[str, ...]


class RecordedArithmetics(StrictModel):
    """`recorded.json`."""

    format: Literal[1] = 1
    arithmetics: tuple[Arithmetic, ...]


@cache
def read_record() -> RecordedArithmetics:
    return read_spec(RecordedArithmetics, RECORDED, "pip install scoremux")


def name_of(likely: str, digest: str) -> str:
    """Return the recorded name of a digest, else the likely name with the digest's first digits."""
    recorded = next((a for a in read_record().arithmetics if a.digest == digest), None)
    return recorded.name if recorded else f"{likely}-{digest[:_SHOWN_DIGITS]}"


@cache
def probe_digest(make: Callable[..., BackboneRunner], *arguments: Hashable) -> str:
    """Return a digest of a runner's outputs for the probe, at six lengths, on each of its streams.

    Args:
        make: Returns the runner of a backbone.
        arguments: What `make` takes besides the backbone.
    """
    backbone = Backbone.open(PROBE)
    runner, digest = make(backbone, *arguments), hashlib.sha256()
    for number, (tokens, rows) in enumerate(_ROWS_BY_TOKENS.items()):
        outputs = runner.run_on_each_stream(_rows(tokens, rows), _tables(backbone, number))
        # Streams whose bits are equal count as one.
        for part in dict.fromkeys(o.logits.tobytes() + np.asarray(o.pooled).tobytes() for o in outputs):
            digest.update(part)
    return digest.hexdigest()


def _rows(tokens: int, rows: int) -> RowInputs:
    numbers = np.arange(rows)
    places = np.arange(rows * tokens).reshape(rows, tokens)
    ids = places * places * 31 % 61 + 1
    lengths = tokens - numbers[:, None] * (tokens // 8)
    mask = np.arange(tokens) < lengths
    return RowInputs(ids, mask.astype(np.int64), numbers % _GROUPS)


def _tables(backbone: Backbone, seed: int) -> Tables:
    arrays: dict[str, Any] = {}
    for place, (name, shape) in enumerate(input_shapes(backbone.spec, _SIZE).items()):
        numbers = made_up((_GROUPS, *shape), 7919 * (place + 1) + seed)
        magnitudes = name.startswith("M.")
        arrays[name] = numbers * 2.0**-3 + np.float32(1) if magnitudes else numbers * 2.0**-2
    return Tables(arrays)


def made_up(shape: tuple[int, ...], seed: int) -> Floats:
    """Return numbers from −1 to 1 computed from their places: no generator whose numbers a version may change."""
    mixed = (np.arange(int(np.prod(shape))) * 48271 + seed) % 2147483647
    mixed = mixed * mixed % 2147483647 % 2048 - 1024
    return (mixed * 2.0**-10).astype(np.float32).reshape(shape)
