"""The Triton models that come with scoremux: hand-written configurations, and a `model.py` that only imports."""

import math
from pathlib import Path

from scoremux_engine.errors import BackboneError
from scoremux_files.atomic import replace_file
from scoremux_files.errors import writing

MODELS = "models"
"""The folder of a repository that Triton takes for its model repository: it must hold nothing but models."""
SCORER = "scorer"
BACKBONE = "backbone"
STOPS_BY = "stops-by"
"""The file in the folder of a run with the time (epoch seconds) after which waiting rows are not computed any more."""
ARITHMETIC = "arithmetic"
"""The file in the folder of a run with the name of the arithmetic that the scorer computes in."""
_SCORER_FILES = ("config.pbtxt", "1/model.py")


def models() -> Path:
    """Return the folder of the models: inside the package, or at the root of a checkout."""
    here = Path(__file__).resolve()
    for folder in (here.parents[1] / "model_repository", here.parents[3] / "model_repository"):
        if (folder / SCORER / "config.pbtxt").is_file():
            return folder
    raise BackboneError("the models that come with scoremux are missing; install scoremux again")


def write_scorer(repository: Path) -> None:
    """Write the model `scorer` into ``repository/models``, for any Triton to serve; an older one is overwritten.

    The scorer finds the backbone and the store beside that folder. Raises BackboneError.
    """
    for name in _SCORER_FILES:
        content, target = (models() / SCORER / name).read_bytes(), repository / MODELS / SCORER / name
        with writing(target, BackboneError):
            target.parent.mkdir(parents=True, exist_ok=True)
            replace_file(target, [content])


def stops_by(folder: Path) -> float:
    """Return when the server stops (epoch seconds), infinity while it does not."""
    try:
        return float((folder / STOPS_BY).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # no stop, or it is being written
        return math.inf
