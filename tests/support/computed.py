"""Which runners and precisions the tests can take: those that this processor computes."""

from scoremux_engine.runners.choose import ON_CPU, RunnerChoice
from scoremux_engine.runners.precisions import PRECISIONS, is_computed


def computed_precisions() -> list[str]:
    """Return OpenVINO's precisions that this processor computes."""
    return [precision for precision in PRECISIONS if is_computed(precision)]


def computed_runners() -> dict[str, RunnerChoice]:
    """Return the runners that work on this processor's cores, by name and precision."""
    return {f"{c.name} {c.precision}": c for c in ON_CPU if c.name != "openvino" or is_computed(c.precision)}
