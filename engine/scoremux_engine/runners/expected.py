"""Expected outputs: each process computes a few fixed rows before it is ready, and compares them with the export's.

They lie beside the backbone in `measured.safetensors`: outputs of ONNX Runtime in float32. A kernel that is wrong on
some processor, without an error, is noticed for this very backbone.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from scoremux_engine.errors import RunnerError
from scoremux_engine.model import backbone as names
from scoremux_engine.model.backbone import Backbone, BackboneSpec
from scoremux_engine.model.buckets import SizeClass, padded_prefix
from scoremux_engine.model.provenance import processor_name
from scoremux_engine.model.tables import Tables, input_shapes
from scoremux_engine.runners.arithmetic import made_up
from scoremux_engine.runners.runner import BackboneRunner, Floats, RowInputs

log = logging.getLogger(__name__)

DISTANCE = "distance."
"""How the names of distances that the export measured begin; the precision follows."""

_ALLOWED = {
    "float32": (5e-3, 5e-3, 1.0),
    "float16": (0.015, 0.05, 2.0),
    "bfloat16": (0.015, 0.1, 2.0),
    "int8": (0.015, 0.2, 1.5),
}
"""By precision the least and the largest distance that may be allowed, and how many times the export's own.

The export's own is measured on one processor, and others round in other places: `engine/equal_bits.md` says how much
that changes. int8 multiplies alike on all of them.
"""

_GROUPS, _LEVELS, _PREFIX = 2, 8, 24
_GAIN = 0.5
"""How large the products of adapters are beside those that they are added to."""
_BATCHES = (
    (8, 3, 8, False),
    (16, 2, 16, True),
    (24, 2, 8, True),
    (40, 1, 16, False),
    (64, 1, 8, False),
    (96, 1, 8, True),
)
"""Tokens, rows, rank, and whether the rows have a prefix where the backbone reads prefixes."""
_PLAIN, _PREFIXED = (0, 4), (2, 5)
"""Batches of rank 8, which is in every rank class: without and with a prefix."""


def expected_outputs(backbone: Backbone, runner: BackboneRunner) -> dict[str, Floats]:
    """Return a runner's outputs for each batch, by name."""
    spec = backbone.spec
    outs = [runner.run(_rows(backbone, n), _tables(spec, n, _own(spec, n)), pooled=True) for n in range(len(_BATCHES))]
    return {f"{name}.{n}": array for n, out in enumerate(outs) for name, array in vars(out).items()}


def allowed(measured: Mapping[str, Floats], precision: str) -> float:
    """Return the largest distance in a precision: a multiple of the export's own, within limits."""
    (least, most, times), at_export = _ALLOWED[precision], measured.get(DISTANCE + precision)
    return most if at_export is None else min(most, max(least, times * float(at_export[0])))


def distance(backbone: Backbone, runner: BackboneRunner, live: Iterable[SizeClass] = ()) -> float:
    """Return how far a runner's outputs are from the expected ones, on the farthest of its streams.

    The distance of a row is |got − expected| / |expected|, of its logits or of its vector; infinity for NaN.

    Args:
        live: Further size classes that rows will have.
    """
    return max(_distances(backbone, runner, live))


def check(backbone: Backbone, runner: BackboneRunner, live: Iterable[SizeClass] = ()) -> str:
    """Return a sentence about a runner's distance from the expected outputs, nothing where there are none.

    Raises RunnerError where it is too large.
    """
    if not backbone.measured:
        command = f"scoremux export measure {backbone.folder.parents[1]}"
        log.warning("the backbone has no expected outputs, so a wrong kernel would stay unnoticed: run `%s`", command)
        return ""
    apart, most = distance(backbone, runner, live), allowed(backbone.measured, runner.precision)
    if apart > most:
        instead = "precision=float32" if runner.precision != "float32" else "the profile cpu-reference"
        raise RunnerError(
            f"{runner.precision} is wrong on this processor ({processor_name()}): outputs of the backbone are "
            f"{apart:.2g} from the expected ones, {most:.2g} is allowed; use {instead}"
        )
    return said(runner.precision, apart, most)


def said(precision: str, apart: float, most: float) -> str:
    """Return a sentence about a distance."""
    return f"{precision}: {apart:.1e} from the expected outputs, {most:.1e} is allowed"


def _distances(backbone: Backbone, runner: BackboneRunner, live: Iterable[SizeClass]) -> Iterator[float]:
    spec = backbone.spec
    own = [(n, _own(spec, n)) for n in range(len(_BATCHES))]
    others = sorted({*live} - {size for _, size in own})
    more = [((_PREFIXED if size.prefix else _PLAIN)[n % 2], size) for n, size in enumerate(others)]
    for number, size in (*own, *more):
        for out in runner.run_on_each_stream(_rows(backbone, number), _tables(spec, number, size)):
            for name, got in vars(out).items():
                expected = backbone.measured[f"{name}.{number}"]
                times = got.shape[1] // expected.shape[1]
                expected = np.tile(expected, (1, times))
                apart = np.linalg.norm(got - expected, axis=1)
                apart /= np.linalg.norm(expected, axis=1)
                farthest = float(apart.max())
                yield np.inf if np.isnan(farthest) else farthest


def _own(spec: BackboneSpec, number: int) -> SizeClass:
    _, _, rank, prefixed = _BATCHES[number]
    return SizeClass(rank, _LEVELS, padded_prefix(_PREFIX) if prefixed and spec.prefix_layers else 0)


def _rows(backbone: Backbone, number: int) -> RowInputs:
    """Return made-up rows within the tokens that the tokenizer puts around a text: of two tasks, or one row.

    Each has another length.
    """
    spec = backbone.spec
    tokens, count, _, prefixed = _BATCHES[number]
    before = _PREFIX if prefixed and spec.prefix_layers else 0
    tokens = min(tokens, spec.max_tokens - before)
    around = backbone.tokenizer.encode([""])[0].ids
    places = np.arange(count * tokens, dtype=np.int64).reshape(count, tokens) + 1000 * number
    ids = places * 7919 * (places + 104729) % max(1, backbone.tokenizer.size)
    lengths = tokens - np.arange(count)[:, None] * (tokens // 8)
    if 0 < len(around) < tokens // 2:
        ids[:, 0] = around[0]
        for place, token in enumerate(reversed(around[1:])):
            np.put_along_axis(ids, lengths - 1 - place, token, axis=1)
    mask = (np.arange(tokens) < lengths).astype(np.int64)
    ids, zeros = np.where(mask, ids, spec.pad_id), np.zeros_like(ids)
    types = zeros + mask * (np.arange(tokens) >= tokens // 2) if spec.token_types else None
    group = np.arange(count, dtype=np.int64) % _GROUPS
    return RowInputs(ids, mask, group, types, zeros[:, 0] + before if spec.prefix_layers else None)


def _tables(spec: BackboneSpec, number: int, size: SizeClass) -> Tables:
    """Return made-up tables of a batch's rank, written so that they fill the tables of a size class.

    A rank r becomes R by repeating A and B, B divided by R / r: every column counts, and the product is the same.
    """
    rank, prefix = _BATCHES[number][2], _PREFIX if size.prefix else 0
    own, shapes = input_shapes(spec, SizeClass(rank, _LEVELS, prefix)), input_shapes(spec, size)
    arrays: dict[str, Floats] = {}
    for place, (name, shape) in enumerate(own.items()):
        array = made_up((_GROUPS, *shape), place + 100 * number) * _scale(name, shape)
        if name.startswith(names.magnitude_input("")):
            array += 1
        if shapes[name] != shape:
            wider = [(0, many - few) for few, many in zip(shape, shapes[name], strict=True)]
            array = np.pad(array, [(0, 0), *wider], "constant" if names.is_prefix_input(name) else "wrap")
        if name.startswith("B."):
            array /= size.rank // rank
        arrays[name] = np.ascontiguousarray(array, np.float32)
    return Tables(arrays)


def _scale(name: str, shape: tuple[int, ...]) -> float:
    """Return how large a table's numbers are: a product of it is about as large as its input, biases are small."""
    if names.is_prefix_input(name):
        return 1.0
    if len(shape) == 1:
        return 0.1
    return float((3 / shape[0]) ** 0.5) * (_GAIN if name.startswith("B.") else 1)
