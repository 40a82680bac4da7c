"""Score student answers for many tasks in one mixed batch.

    from scoremux import Client, Response
    with Client("localhost:8001") as client:
        client.score([Response(task="bio-7", text="It absorbs red light.")])

These names are public; all others may change in any version. Each is imported when it is used, so that the client
library alone brings neither the engine nor the statistics.
"""

from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scoremux_client import AsyncScoringClient as AsyncClient
    from scoremux_client import Response, Scored, ScoremuxError, Status, served_tasks
    from scoremux_client import ScoringClient as Client
    from scoremux_engine.engine import Engine as Engine
    from scoremux_engine.runners.choose import RunnerChoice as RunnerChoice
    from scoremux_engine.store.store import Store as Store
    from scoremux_evidence.figures.agreement import agreement

__all__ = ["AsyncClient", "Client", "Response", "Scored", "ScoremuxError", "Status", "agreement", "served_tasks"]

_OF_ENGINE = ("Engine", "RunnerChoice", "Store")
"""Public too, and not in `__all__`, so that `import *` works in a base installation."""

_HOME = {
    "AsyncClient": "scoremux_client:AsyncScoringClient",
    "Client": "scoremux_client:ScoringClient",
    "Engine": "scoremux_engine.engine:Engine",
    "RunnerChoice": "scoremux_engine.runners.choose:RunnerChoice",
    "Store": "scoremux_engine.store.store:Store",
    "agreement": "scoremux_evidence.figures.agreement:agreement",
}
"""Name → module and name there; those that are not listed are names of `scoremux_client`."""


def __dir__() -> list[str]:
    return sorted([*__all__, *(_OF_ENGINE if find_spec("tokenizers") else ())])


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("scoremux")
    if name not in (*__all__, *_OF_ENGINE):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, own = _HOME.get(name, f"scoremux_client:{name}").partition(":")
    try:
        return getattr(import_module(module), own)
    except ModuleNotFoundError as error:
        raise ImportError(f"scoremux.{name} needs {error.name}: pip install 'scoremux[serve]'") from error
