"""Expected outputs: each process computes a few fixed rows before it is ready, and compares them with the export's.

They lie beside the backbone (`Backbone.measured_file`): outputs of ONNX Runtime in float32, and of OpenVINO in int8,
for processes of the same arithmetic. A kernel that is wrong on some processor, without an error, is noticed for this
very backbone.
"""

import logging
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from scoremux_engine.errors import BackboneError, RunnerError
from scoremux_engine.model import backbone as names
from scoremux_engine.model.backbone import Backbone, BackboneSpec
from scoremux_engine.model.buckets import SizeClass, padded_prefix
from scoremux_engine.model.provenance import processor_name
from scoremux_engine.model.tables import Tables, input_shapes
from scoremux_engine.model.tokens import Tokens
from scoremux_engine.runners.arithmetic import made_up
from scoremux_engine.runners.runner import BackboneRunner, Floats, RowInputs, pad
from scoremux_files.errors import parsing

NamedOutput = tuple[str, Floats]

log = logging.getLogger(__name__)

DISTANCE = "distance."
"""How the names of distances that the export measured begin; the precision follows."""

_SAME_ARITHMETIC = 1e-3
"""The largest distance from outputs of the same arithmetic, whose bits are equal.

Others are not compared: where the last bit of one float32 differs, numbers are rounded to other integers, and the
outputs of a deep model move as far as they are from float32's.
"""

_ALLOWED = {
    "float32": (5e-3, 5e-3, 1.0),
    "tf32": (5e-3, 5e-3, 1.0),
    "float16": (0.015, 0.015, 1.0),
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
FULL_TOKENS = 2048
"""Tokens of a full micro-batch, and of the longest row that is checked."""
_BATCHES = (
    (8, 3, 8, False),
    (16, 2, 16, True),
    (24, 2, 8, True),
    (40, 1, 16, False),
    (64, 1, 8, False),
    (96, 1, 8, True),
    (FULL_TOKENS, 1, 8, False),
    (64, FULL_TOKENS // 64, 16, False),
)
"""Tokens (the backbone's limit at most), rows, rank, and whether rows have a prefix where the backbone reads prefixes.

The last two are the longest row and a full micro-batch. A row that is one leaves the latter out.
"""
VERSION = "version"
"""Says in the file which batches these are. Whoever changes them raises the number: other rows prove nothing."""
_VERSION, _WITHOUT_VERSION = 2, 6
"""The version of these batches, and how many of them are in files without one."""
_PLAIN, _PREFIXED = (0, 4), (2, 5)
"""Batches of rank 8, which is in every rank class: without and with a prefix."""


class Distance(NamedTuple):
    """How far outputs are from expected ones, and how far they may be.

    source: Whose outputs are expected, in words.
    """

    source: str
    farthest: float
    allowed: float

    @property
    def is_too_far(self) -> bool:
        return not self.farthest <= self.allowed  # it may be NaN

    def __str__(self) -> str:
        return f"{self.farthest:.1e} from {self.source}, {self.allowed:.1e} is allowed"


def expected_outputs(backbone: Backbone, reference: BackboneRunner) -> dict[str, Floats]:
    """Return the contents of the file that an export begins with."""
    return {VERSION: np.array([_VERSION], np.float32), **dict(outputs(backbone, reference))}


def outputs(
    backbone: Backbone, runner: BackboneRunner, live: Iterable[SizeClass] | None = None, first: int = len(_BATCHES)
) -> list[NamedOutput]:
    """Return a runner's outputs for made-up rows, on each of its streams, by their names in the file.

    Args:
        live: Size classes that rows will have, each of which gets a batch; None: each batch is of its own size class.
        first: How many batches to compute; `live` changes the size classes of two among the first.
    """
    spec = backbone.spec
    prefix = padded_prefix(_PREFIX) if spec.prefix_layers else 0
    sizes = [SizeClass(rank, _LEVELS, prefix if prefixed else 0) for _, _, rank, prefixed in _BATCHES]
    batches = list(enumerate(sizes))[: first - (spec.max_tokens >= FULL_TOKENS and first == len(_BATCHES))]
    if live is not None:
        others = sorted({*live}.difference(sizes))
        batches = [((_PREFIXED if size.prefix else _PLAIN)[n % 2], size) for n, size in enumerate(others)]
    return [
        (f"{name}.{number}", array)
        for number, size in batches
        for out in runner.run_on_each_stream(_rows(backbone, number), _tables(spec, number, size))
        for name, array in vars(out).items()
    ]


def farthest(computed: Iterable[NamedOutput], expected: Mapping[str, Floats], kind: str = "") -> float:
    """Return the distance of the farthest row, of its logits or of its vector: |got − expected| / |expected|.

    It is NaN where one is not finite.

    Args:
        kind: How the names of the expected outputs begin; none for float32's.
    """
    distances = []
    for name, got in computed:
        rows = expected[f"{kind}{name}"]
        rows = np.tile(rows, got.shape[1] // max(1, rows.shape[1]))
        distances.append(np.linalg.norm(got - rows, axis=1) / np.linalg.norm(rows, axis=1))
    return float(np.concatenate(distances).max())


def from_float32(apart: float, measured: Mapping[str, Floats], precision: str) -> Distance:
    """Return a distance of a precision from float32 with what is allowed: a multiple of the export's, within limits."""
    least, most, times = _ALLOWED[precision]
    at_export = measured.get(f"{DISTANCE}{precision}", [most])
    allowed = min(most, max(least, times * float(at_export[0])))
    return Distance("the expected outputs", apart, allowed)


def distances(backbone: Backbone, runner: BackboneRunner, live: Iterable[SizeClass] = ()) -> list[Distance]:
    """Return how far a runner is from float32 and, where the export was in its arithmetic, from the export.

    Args:
        live: Further size classes that rows will have.
    """
    measured = backbone.measured
    computed = outputs(backbone, runner, first=_batches_in(measured))
    of_live = outputs(backbone, runner, live)
    with parsing(str(backbone.damaged), BackboneError):
        found = [from_float32(farthest([*computed, *of_live], measured), measured, runner.precision)]
        if runner.precision == "int8" and f"{runner.arithmetic}.logits.0" in measured:
            apart = farthest(computed, measured, f"{runner.arithmetic}.")
            found.append(Distance("those in int8", apart, _SAME_ARITHMETIC))
    return found


def check(backbone: Backbone, runner: BackboneRunner, live: Iterable[SizeClass] = ()) -> str:
    """Return a sentence about a runner's distance from the expected outputs, nothing where there are none.

    Raises RunnerError where it is too large.
    """
    batches = _batches_in(backbone.measured)
    if batches < len(_BATCHES):
        lacks = "expected outputs of long texts and full micro-batches" if batches else "usable expected outputs"
        command = f"scoremux export measure {backbone.folder.parents[1]}"
        log.warning("the backbone has no %s, so a wrong kernel may stay unnoticed: run `%s`", lacks, command)
    if not batches:
        return ""
    found, precision = distances(backbone, runner, live), runner.precision
    if wrong := next((one for one in found if one.is_too_far), None):
        instead = "precision=float32" if precision != "float32" else "the profile cpu-reference"
        raise RunnerError(f"{precision} is wrong on this processor ({processor_name()}): {wrong}; use {instead}")
    return f"{precision}: {'; '.join(map(str, found))}"


def _batches_in(measured: Mapping[str, Floats]) -> int:
    """Return how many of the batches have expected outputs; none where they are another version's."""
    if VERSION in measured:
        return len(_BATCHES) if measured[VERSION].tolist() == [_VERSION] else 0
    return _WITHOUT_VERSION if measured else 0


def _rows(backbone: Backbone, number: int) -> RowInputs:
    """Return made-up rows of two tasks, or one row, within the tokens that the tokenizer puts around a text.

    They have up to eight lengths.
    """
    spec, around = backbone.spec, backbone.tokenizer.encode([""])[0].ids
    longest, count, _, prefixed = _BATCHES[number]
    before = _PREFIX if prefixed and spec.prefix_layers else 0
    longest = min(longest, spec.max_tokens - before)
    rows = []
    for row in range(count):
        length = longest - row % 8 * (longest // 8)
        places = np.arange(length) + longest * row + 1000 * number
        ids = places * 7919 * (places + 104729) % max(1, backbone.tokenizer.size)
        if 0 < len(around) < longest // 2:
            ids[0] = around[0]
            ids[length - len(around) + 1 :] = around[1:]
        second = np.arange(length) >= longest // 2
        rows.append(Tokens(ids.tolist(), second.tolist(), False))
    return pad(rows, np.arange(count) % _GROUPS, longest, spec, [before] * count)


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
        if name.startswith("B."):
            array /= size.rank // rank
        sizes = zip(shape, shapes[name], strict=True)
        wider = [(0, 0), *((0, many - few) for few, many in sizes)]
        arrays[name] = np.pad(array, wider, "constant" if names.is_prefix_input(name) else "wrap")
    return Tables(arrays)


def _scale(name: str, shape: tuple[int, ...]) -> float:
    """Return how large a table's numbers are: a product of it is about as large as its input, biases are small."""
    if names.is_prefix_input(name):
        return 1.0
    if len(shape) == 1:
        return 0.1
    return float((3 / shape[0]) ** 0.5) * (_GAIN if name.startswith("B.") else 1)
