"""The scorer; all of it is in scoremux_engine.triton.backend."""

from __future__ import annotations

from scoremux_engine.triton.backend import Scorer as TritonPythonModel

__all__ = ["TritonPythonModel"]
