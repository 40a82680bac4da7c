"""The backbone in the Python backend; all of it is in scoremux_engine.triton.backend."""

from __future__ import annotations

from scoremux_engine.triton.backend import BackboneModel as TritonPythonModel

__all__ = ["TritonPythonModel"]
