"""Files of a front door: certificates made here, a token, and the Tritons behind it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import trustme

from scoremux_client import Tls
from scoremux_server.endpoints import Endpoints
from scoremux_server.front_door.config import Backend
from scoremux_server.front_door.tokens import Tokens
from scoremux_server.server import Server


def furnish(folder: Path, servers: Sequence[Server] = ()) -> tuple[Path, Tls, str, int]:
    """Write a door's files; return its configuration, the certificates and the token for clients, and its port.

    servers: those of `[[backends]]`; none where `scoremux serve` adds its own.
    """
    authority = trustme.CA()
    made = authority.issue_cert("localhost")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    made.private_key_and_cert_chain_pem.write_to_path(folder / "door.pem")
    token = Tokens(folder / "tokens.json").add("benchmark", ["*"], 0, 1)
    port = Endpoints.choose().http
    lines = [f"port = {port}", 'certificate = "door.pem"']
    for number, server in enumerate(servers):
        backend = Backend.of(server.endpoints, f"triton-{number}")
        lines += ["[[backends]]", *(f'{key} = "{value}"' for key, value in backend.model_dump().items())]
    (folder / "door.toml").write_text("\n".join(lines), encoding="utf-8")
    return folder / "door.toml", Tls(folder / "ca.pem"), token, port
