"""The scorer; all of it is in scoremux_engine.backend.scorer."""

from __future__ import annotations

from scoremux_engine.backend.scorer import Scorer as TritonPythonModel

__all__ = ["TritonPythonModel"]
