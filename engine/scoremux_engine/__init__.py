"""The engine of scoremux, inside Triton's Python backend or without a server.

>>> from scoremux_engine import Engine
>>> engine = Engine.open("repo")                                 # doctest: +SKIP
>>> engine.score(["It hands out addresses."], ["en-6.3-ipp"])    # doctest: +SKIP
"""

from typing import TYPE_CHECKING, Any

from scoremux_engine.errors import BackboneError, EngineError, PackageError, RunnerError, StoreError

if TYPE_CHECKING:
    from scoremux_engine.engine import Engine

__all__ = ["BackboneError", "Engine", "EngineError", "PackageError", "RunnerError", "StoreError"]


def __getattr__(name: str) -> Any:
    """Import the engine when it is asked for: the command line looks into this package without needing it."""
    if name == "Engine":
        from scoremux_engine.engine import Engine

        return Engine
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
