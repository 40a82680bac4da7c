"""haproxy.cfg and the files it reads, from the front door's configuration."""

from __future__ import annotations

import shutil
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scoremux_server.errors import SetupError
from scoremux_server.front_door.config import Backend, FrontDoorConfig
from scoremux_server.front_door.refusals import expand, failures, lines_grpc, lines_http, refusals
from scoremux_server.front_door.tokens import Tokens

CONFIG, TOKENS_MAP = "haproxy.cfg", "tokens.map"
_LUA = "requests.lua"
_HEADERS_BYTES = 64 << 10
_RATE_WINDOW_S = 10


def render(config: FrontDoorConfig, backends: Sequence[Backend], folder: Path) -> str:
    """Return haproxy.cfg; `folder` is where its files will lie."""
    values: dict[str, Any] = {
        **config.model_dump(),
        "address": f"[{config.address}]" if ":" in config.address else config.address,
        "folder": folder,
        "lua": folder / _LUA,
        "buffer_bytes": config.request_bytes + _HEADERS_BYTES,
        "rate_window_s": _RATE_WINDOW_S,
        "log_all": str(config.log_all).lower(),
        "client_ca": f" ca-file {folder}/client-ca.pem verify required" if config.client_ca else "",
        "http_servers": "\n".join(f"    server {b.name} {b.http} check addr {_ready(b)}" for b in backends),
        # HAProxy would ask a server of HTTP/2 for its health in HTTP/2, which the watcher does not speak.
        "grpc_servers": "\n".join(f"    server {b.name} {b.grpc} proto h2 track http/{b.name}" for b in backends),
        "http_failures": lines_http(failures(config.answer_s)),
        "grpc_failures": lines_grpc(failures(config.answer_s)),
        "metrics": _metrics(config.metrics_port),
    }
    template = string.Template((_sources() / CONFIG).read_text(encoding="utf-8"))
    return expand(template.substitute(values), refusals(config.request_bytes))


def write(config: FrontDoorConfig, backends: Sequence[Backend], folder: Path) -> Path:
    """Write haproxy.cfg and what it reads into `folder`; return its path. Raises SetupError."""
    links = {"door.pem": config.certificate, "door.pem.key": config.key, "client-ca.pem": config.client_ca}
    for name, target in links.items():
        (folder / name).unlink(missing_ok=True)
        if target is not None:
            (folder / name).symlink_to(target)
    shutil.copyfile(_sources() / _LUA, folder / _LUA)
    (folder / TOKENS_MAP).write_text(token_lines(config), encoding="utf-8")
    (folder / CONFIG).write_text(render(config, backends, folder), encoding="utf-8")
    return folder / CONFIG


def token_lines(config: FrontDoorConfig) -> str:
    """Return the map of tokens, a line each."""
    return "".join(f"{token.map_line}\n" for token in Tokens(config.tokens).read())


def _ready(backend: Backend) -> str:
    host, _, port = backend.ready.rpartition(":")
    return f"{host} port {port}"


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
