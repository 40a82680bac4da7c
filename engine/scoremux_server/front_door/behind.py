"""What the Tritons behind a front door answer before it opens: one that HAProxy would never use is named."""

from __future__ import annotations

from collections.abc import Callable

import httpx

from scoremux_server.errors import SetupError
from scoremux_server.front_door.config import DOOR_HEADER, I_KNOW, Backend, FrontDoorConfig, door_mark
from scoremux_server.triton.installation import SAFE

_ASKED_S = 2.0


def look_behind(config: FrontDoorConfig, key: bytes, report: Callable[[str], None]) -> None:
    """Report each Triton that does not answer yet, or that gets no requests as it is.

    Those with TLS are left to HAProxy. Raises SetupError where the door would refuse every request.
    """
    refusals = []
    for backend in config.backends:
        try:
            mark = "" if backend.ca else _mark(backend)
        except httpx.HTTPError:
            report(f"nothing answers at {backend.ready}: requests get 503 until `scoremux serve` is ready there")
            continue
        if not backend.ca and (refusal := _refusal(config, backend, key, mark)):
            refusals.append(refusal)
    if refusals and len(refusals) == len(config.backends):
        raise SetupError("; ".join(refusals))
    for refusal in refusals:
        report(refusal)


def _mark(backend: Backend) -> str:
    answer = httpx.head(f"http://{backend.ready}/readyz", timeout=_ASKED_S, trust_env=False)
    return str(answer.headers.get(DOOR_HEADER, ""))


def _refusal(config: FrontDoorConfig, backend: Backend, key: bytes, mark: str) -> str:
    """Return why a Triton gets no requests, with the remedy; empty if it gets some."""
    restart = f"restart it with `scoremux serve --set grant_key_file={config.grant_key}`"
    if not mark:
        return f"the server at {backend.ready} checks no grants: {restart}"
    safe = door_mark(key, safe=True)
    if not mark.startswith(safe):
        return f"the server at {backend.ready} has another grant key: {restart}"
    if mark != safe and config.is_open and not config.i_know:
        return (
            f"address is {config.address}, and the Triton at {backend.ready} has known security holes: take "
            f'127.0.0.1, or Triton {SAFE} or newer, or in a closed network i_know = "{I_KNOW}"'
        )
    return ""
