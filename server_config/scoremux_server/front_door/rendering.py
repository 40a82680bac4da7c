"""haproxy.cfg and the files it reads, from the front door's configuration."""

from __future__ import annotations

import shutil
import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scoremux_server.endpoints import bracketed
from scoremux_server.errors import SetupError
from scoremux_server.front_door.config import Backend, FrontDoorConfig
from scoremux_server.front_door.names import host_name
from scoremux_server.front_door.refusals import expand, failures, lines_grpc, lines_http, refusals
from scoremux_server.front_door.tokens import Tokens

CONFIG, TOKENS_MAP = "haproxy.cfg", "tokens.map"
_LUA = "requests.lua"
_HEADERS_BYTES = 64 << 10
_RATE_WINDOW_S = 10
_NOWHERE = "192.0.2.1"
"""An address that no machine has (RFC 5737): HAProxy lets no server be given one later that starts without any."""
PROXIES = ("grpc", "http", "ready")
"""The backends of haproxy.cfg, named after the keys of door.toml's: each has a server for each Triton."""


def render(
    config: FrontDoorConfig, backends: Sequence[Backend], folder: Path, addresses: Mapping[str, str] | None = None
) -> str:
    """Return haproxy.cfg; `folder` is where its files will lie, `addresses` what the backends' names stand for."""
    known = addresses or {}
    values: dict[str, Any] = {
        **config.model_dump(),
        "address": bracketed(config.address),
        "folder": folder,
        "lua": folder / _LUA,
        "buffer_bytes": config.request_bytes + _HEADERS_BYTES,
        "rate_window_s": _RATE_WINDOW_S,
        "log_all": str(config.log_all).lower(),
        "client_ca": f" ca-file {folder}/client-ca.pem verify required" if config.client_ca else "",
        "ready_servers": "\n".join(f"    server {b.name} {_at(b.ready, known)} check" for b in backends),
        "http_servers": "\n".join(f"    server {b.name} {_at(b.http, known)} track ready/{b.name}" for b in backends),
        "grpc_servers": "\n".join(
            f"    server {b.name} {_at(b.grpc, known)} proto h2 track ready/{b.name}" for b in backends
        ),
        "http_failures": lines_http(failures(config.answer_s)),
        "grpc_failures": lines_grpc(failures(config.answer_s)),
        "metrics": _metrics(config.metrics_port),
    }
    template = string.Template((_sources() / CONFIG).read_text(encoding="utf-8"))
    return expand(template.substitute(values), refusals(config.request_bytes))


def write(
    config: FrontDoorConfig,
    backends: Sequence[Backend],
    folder: Path,
    tokens: str,
    addresses: Mapping[str, str] | None = None,
) -> Path:
    """Write haproxy.cfg and what it reads into `folder`, `tokens` among it; return its path. Raises SetupError."""
    links = {"door.pem": config.certificate, "door.pem.key": config.key, "client-ca.pem": config.client_ca}
    for name, target in links.items():
        (folder / name).unlink(missing_ok=True)
        if target is not None:
            (folder / name).symlink_to(target)
    shutil.copyfile(_sources() / _LUA, folder / _LUA)
    (folder / TOKENS_MAP).write_text(tokens, encoding="utf-8")
    (folder / CONFIG).write_text(render(config, backends, folder, addresses), encoding="utf-8")
    return folder / CONFIG


def token_lines(config: FrontDoorConfig) -> str:
    """Return the map of tokens, a line each."""
    return "".join(f"{token.map_line}\n" for token in Tokens(config.tokens).read())


def names(backends: Sequence[Backend]) -> dict[str, str]:
    """Return the name that each server (``proxy/name``) is given by, for those that are not given by an address."""
    wheres = {f"{proxy}/{backend.name}": getattr(backend, proxy) for backend in backends for proxy in PROXIES}
    return {server: name for server, where in wheres.items() if (name := host_name(where))}


def _at(where: str, addresses: Mapping[str, str]) -> str:
    """Return where a server is. HAProxy never looks a name up: it would not open while one is unknown."""
    name = host_name(where)
    if name is None:
        return where
    return f"{where} init-addr {addresses.get(name, _NOWHERE)}{'' if name in addresses else ' disabled'}"


def _metrics(port: int) -> str:
    if not port:
        return ""
    return f"""
frontend metrics
    bind 127.0.0.1:{port}
    no log
    http-request use-service prometheus-exporter if {{ path /metrics }}
    http-request deny status 404
"""


def _sources() -> Path:
    """Return the folder of haproxy.cfg: inside the package, or beside it in a checkout."""
    here = Path(__file__).resolve()
    for folder in (here.parents[1] / "proxy", here.parents[2] / "proxy"):
        if (folder / CONFIG).is_file():
            return folder
    raise SetupError("the front door's files are missing; install scoremux again")
