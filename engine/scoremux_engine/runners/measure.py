"""Measurements of a backbone, made once: its expected outputs, int8's ranges, and each precision's distance."""

import numpy as np
from safetensors.numpy import save

from scoremux_engine.errors import RunnerError
from scoremux_engine.model.backbone import MEASURED, SPEC, Backbone
from scoremux_engine.runners.choose import ON_CPU, REFERENCE
from scoremux_engine.runners.expected import DISTANCE, allowed, distance, expected_outputs, said
from scoremux_engine.runners.runner import BackboneRunner, Floats
from scoremux_files.atomic import replace_file
from scoremux_files.digests import digest_of

PORTABLE = "x86-f32"
"""The arithmetic that ranges are measured in, so that int8 has the same bits everywhere."""


def measure(backbone: Backbone) -> tuple[Backbone, list[str]]:
    """Write the measurements beside a backbone, whose digest stays.

    Returns:
        The backbone with it, and a sentence about each of OpenVINO's precisions.
    """
    backbone = _write(backbone, expected_outputs(backbone, REFERENCE.make(backbone)))
    measured, sentences = backbone.measured, list[str]()
    for choice in ON_CPU[1:]:
        try:
            runner = choice.make(backbone)
            if choice.precision == "float32":
                measured = measured | _ranges(backbone, runner)
                backbone = _write(backbone, measured)
            apart = distance(backbone, runner)
        except RunnerError as error:
            sentences.append(f"{choice.precision}: not measured: {error}")
            continue
        measured = measured | {DISTANCE + choice.precision: np.array([apart], np.float32)}
        most = allowed(measured, choice.precision)
        refused = "" if apart <= most else "; it is refused"
        sentences.append(said(choice.precision, apart, most) + refused)
    return _write(backbone, measured), sentences


def _ranges(backbone: Backbone, runner: BackboneRunner) -> dict[str, Floats]:
    """Return the ranges that int8 needs, none on a machine with another arithmetic than PORTABLE."""
    if runner.arithmetic != PORTABLE:
        return {}
    from scoremux_engine.runners.int8 import RANGES, measure_ranges

    ranges = measure_ranges(backbone)
    return {RANGES: np.zeros(1, np.float32)} | {f"{RANGES}{name}": columns for name, columns in ranges.items()}


def _write(backbone: Backbone, measured: dict[str, Floats]) -> Backbone:
    data = save(measured)
    spec = backbone.spec.model_copy(update={"measured": digest_of([data])})
    replace_file(backbone.folder / MEASURED, [data])
    replace_file(backbone.folder / SPEC, [f"{spec.model_dump_json(indent=1)}\n".encode()])
    return Backbone(backbone.folder, spec)
