"""haproxy.cfg and the files it reads, from the front door's configuration."""

from __future__ import annotations

import os
import string
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from scoremux_server.endpoints import bracketed
from scoremux_server.errors import SetupError
from scoremux_server.front_door.config import OWN, Backend, FrontDoorConfig
from scoremux_server.front_door.names import host_name
from scoremux_server.front_door.refusals import expand, failures, lines_grpc, lines_http, refusals
from scoremux_server.front_door.tokens import Tokens

CONFIG, TOKENS_MAP = "haproxy.cfg", "tokens.map"
_LUA = "requests.lua"
_HEADERS_BYTES = 64 << 10
_RATE_WINDOW_S = 10
_MIB = 1 << 20
_NOWHERE = "192.0.2.1"
"""An address that no machine has (RFC 5737): HAProxy lets no server be given one later that starts without any."""


def render(
    config: FrontDoorConfig, backends: Sequence[Backend], folder: Path, addresses: Mapping[str, str] | None = None
) -> str:
    """Return haproxy.cfg; `folder` is where its files will lie, `addresses` what the backends' names stand for."""
    threads = config.threads or min(64, len(os.sched_getaffinity(0)))
    values: dict[str, Any] = {
        **config.model_dump(),
        "threads": threads,
        "address": bracketed(config.address),
        "folder": folder,
        "lua_mib": threads * _lua_mib(config.request_bytes),
        "buffer_bytes": config.request_bytes + _HEADERS_BYTES,
        "rate_window_s": _RATE_WINDOW_S,
        "log_all": str(config.log_all).lower(),
        "client_ca": f' ca-file "{folder}"/client-ca.pem verify required' if config.client_ca else "",
        **_servers(backends, folder, addresses or {}),
        "http_failures": lines_http(failures(config.answer_s)),
        "grpc_failures": lines_grpc(failures(config.answer_s)),
        "metrics": _metrics(config.metrics_port),
    }
    template = string.Template((_sources() / CONFIG).read_text(encoding="utf-8"))
    return expand(template.substitute(values), refusals(config.request_bytes))


def write(folder: Path, rendered: str, tokens: str, pems: Mapping[str, bytes]) -> Path:
    """Write haproxy.cfg and what it reads into `folder`; return its path. Raises SetupError or OSError.

    pems: what `read_pems` found. They are copied: a HAProxy that starts again finds those it was checked with.
    """
    for path in folder.glob("*.pem*"):
        path.unlink()
    texts = {_LUA: (_sources() / _LUA).read_bytes(), TOKENS_MAP: tokens.encode(), CONFIG: rendered.encode()}
    for name, content in {**pems, **texts}.items():
        with open(folder / name, "wb", opener=_private) as file:
            file.write(content)
    return folder / CONFIG


def read_pems(config: FrontDoorConfig) -> dict[str, bytes]:
    """Return the content of the files that HAProxy needs besides. Raises SetupError naming a key of door.toml."""
    found: dict[str, bytes] = {}
    for name, (key, path) in config.pems.items():
        try:
            found[name] = path.read_bytes()
        except OSError as error:
            raise SetupError(f"{key}: {path} cannot be read: {error.strerror}") from error
    return found


def token_lines(config: FrontDoorConfig) -> str:
    """Return the map of tokens, a line each."""
    return "".join(f"{token.map_line}\n" for token in Tokens(config.tokens).read())


def names(backends: Sequence[Backend]) -> dict[str, str]:
    """Return the name that each server (``proxy/name``) is given by, for those that are not given by an address."""
    wheres = {f"{proxy}/{backend.name}": where for backend in backends for proxy, where in _wheres(backend)}
    return {server: name for server, where in wheres.items() if (name := host_name(where))}


def _wheres(backend: Backend) -> Iterator[tuple[str, str]]:
    """Yield the backends of haproxy.cfg that have a server for this Triton, each with where it is."""
    yield from (("grpc", backend.grpc), ("http", backend.http), (_health(backend), backend.ready))


def _health(backend: Backend) -> str:
    """Return the backend of haproxy.cfg in which a Triton's health is asked for."""
    return OWN if backend.name == OWN else "ready"


def _servers(backends: Sequence[Backend], folder: Path, addresses: Mapping[str, str]) -> dict[str, str]:
    lines: dict[str, list[str]] = {"grpc": [], "http": [], "ready": [], OWN: []}
    for backend in backends:
        tracked = f"track {_health(backend)}/{backend.name}"
        options = {"grpc": f"proto h2 {tracked}", "http": tracked}
        for proxy, where in _wheres(backend):
            told = f"{options.get(proxy, 'check')}{_tls(backend, proxy, folder)}"
            lines[proxy].append(f"    server {backend.name} {_at(where, addresses)} {told}")
    return {f"{proxy}_servers": "\n".join(made) for proxy, made in lines.items()}


def _tls(backend: Backend, proxy: str, folder: Path) -> str:
    """Return the options that encrypt what goes to a Triton, and refuse one with another name or authority."""
    if not backend.ca:
        return ""
    name = backend.verified_name
    protocols = "h2" if proxy == "grpc" else "http/1.1"
    verified = f'ssl verify required ca-file "{folder}"/backend-{backend.name}-ca.pem verifyhost {name} sni str({name})'
    return f" {verified} check-sni {name} alpn {protocols} ssl-min-ver TLSv1.2"


def _at(where: str, addresses: Mapping[str, str]) -> str:
    """Return where a server is. HAProxy never looks a name up: it would not open while one is unknown."""
    name = host_name(where)
    if name is None:
        return where
    return f"{where} init-addr {addresses.get(name, _NOWHERE)}{'' if name in addresses else ' disabled'}"


def _lua_mib(request_bytes: int) -> int:
    """Return what Lua may take for a thread: a body, its JSON cut off, and both again as garbage; twice that."""
    return 8 * request_bytes // _MIB + 16


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


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _sources() -> Path:
    """Return the folder of haproxy.cfg: inside the package, or beside it in a checkout."""
    here = Path(__file__).resolve()
    for folder in (here.parents[1] / "proxy", here.parents[3] / "server_config" / "proxy"):
        if (folder / CONFIG).is_file():
            return folder
    raise SetupError("the front door's files are missing; install scoremux again")
