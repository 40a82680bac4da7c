"""Measurements of a backbone, made once: its expected outputs, int8's ranges, and each precision's distance."""

import numpy as np
from safetensors.numpy import save

from scoremux_engine.model.backbone import MEASURED, SPEC, Backbone
from scoremux_engine.runners.choose import REFERENCE
from scoremux_engine.runners.expected import DISTANCE, allowed, expected_outputs, said
from scoremux_engine.runners.runner import BackboneRunner
from scoremux_files.atomic import replace_file
from scoremux_files.digests import digest_of


def measure(backbone: Backbone, reference: BackboneRunner | None = None) -> list[str]:
    """Measure a backbone, and write the result beside it; the backbone keeps its digest.

    Args:
        reference: Computes the expected outputs, in float32; None for `REFERENCE`.

    Returns a sentence about each of OpenVINO's precisions.
    """
    measured = backbone.measured = expected_outputs(backbone, reference or REFERENCE.make(backbone))
    found: dict[str, float | str]
    try:
        from scoremux_engine.runners.norm_ranges import distances

        found = distances(backbone)
    except ImportError as error:
        found = {"OpenVINO's precisions": str(error)}
    sentences = list[str]()
    for name, apart in found.items():
        if isinstance(apart, str):
            sentences.append(f"{name}: not measured: {apart}")
            continue
        measured[DISTANCE + name] = np.array([apart], np.float32)
        most = allowed(measured, name)
        sentences.append(said(name, apart, most) + ("" if apart <= most else "; it is refused"))
    data = save(measured)
    backbone.spec = backbone.spec.model_copy(update={"measured": digest_of([data])})
    replace_file(backbone.folder / MEASURED, [data])
    replace_file(backbone.folder / SPEC, [f"{backbone.spec.model_dump_json(indent=1)}\n".encode()])
    return sentences
