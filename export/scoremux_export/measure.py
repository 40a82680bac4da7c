"""Measurements of a backbone, made once: its expected outputs, int8's ranges, and each precision's distance."""

from safetensors.numpy import save

from scoremux_engine.model.backbone import MEASURED, SPEC, Backbone
from scoremux_engine.runners.choose import REFERENCE
from scoremux_engine.runners.expected import expected_outputs
from scoremux_engine.runners.runner import BackboneRunner
from scoremux_export.errors import ExportError
from scoremux_files.atomic import replace_file
from scoremux_files.digests import digest_of
from scoremux_files.errors import writing


def measure(backbone: Backbone, reference: BackboneRunner | None = None) -> list[str]:
    """Measure a backbone, and write the result beside it; the backbone keeps its digest.

    Args:
        reference: Computes the expected outputs, in float32; None for `REFERENCE`.

    Returns a sentence about each of OpenVINO's precisions.
    """
    backbone.measured = expected_outputs(backbone, reference or REFERENCE.make(backbone))
    try:
        from scoremux_engine.runners.norm_ranges import measure_precisions

        sentences = measure_precisions(backbone)
    except ImportError as error:
        sentences = [f"OpenVINO's precisions: not measured: {error}"]
    data = save(backbone.measured)
    backbone.spec = backbone.spec.model_copy(update={"measured": digest_of([data])})
    file = backbone.folder / MEASURED.format(f"-{backbone.spec.measured[:16]}")
    with writing(file, ExportError):
        replace_file(file, [data])
        replace_file(backbone.folder / SPEC, [f"{backbone.spec.model_dump_json(indent=1)}\n".encode()])
        for earlier in {*backbone.folder.glob(MEASURED.format("*"))} - {file}:
            earlier.unlink(missing_ok=True)
    return sentences
