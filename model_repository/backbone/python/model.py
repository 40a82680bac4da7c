"""The backbone in the Python backend; all of it is in scoremux_engine.backend.scorer."""

from __future__ import annotations

from scoremux_engine.backend.scorer import BackboneModel as TritonPythonModel

__all__ = ["TritonPythonModel"]
