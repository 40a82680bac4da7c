"""The front door's configuration: a TOML file."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from scoremux_server.endpoints import LOOPBACK, Endpoints
from scoremux_server.errors import SetupError
from scoremux_server.settings import check, read_toml

_HOST_AND_PORT = r"^[0-9A-Za-z.:\[\]-]+:[0-9]+$"
OWN = "own"
"""Name of the Triton that `scoremux serve` starts itself."""


class Backend(BaseModel):
    """One Triton behind the door. Each address is ``host:port``; `ready`: its watcher's, asked for `/readyz`, or for
    `/servez` where the Triton is the door's own.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[0-9A-Za-z_-]{1,64}$")
    grpc: str = Field(pattern=_HOST_AND_PORT)
    http: str = Field(pattern=_HOST_AND_PORT)
    ready: str = Field(pattern=_HOST_AND_PORT)

    @classmethod
    def of(cls, endpoints: Endpoints, name: str = OWN) -> Backend:
        """Return the Triton at `endpoints`."""
        http, ready = urlsplit(endpoints.http_url).netloc, urlsplit(endpoints.watch_url).netloc
        return cls(name=name, grpc=endpoints.grpc_url, http=http, ready=ready)


class FrontDoorConfig(BaseModel):
    """Every key of the file; the descriptions are the documentation (`scoremux_server.profile_keys`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    address: str = Field(
        default=LOOPBACK,
        pattern=r"^[0-9A-Za-z.:*-]+$",
        description="Where the door listens, gRPC and HTTP on one port, always with TLS 1.2 or newer.",
    )
    port: int = Field(default=8443, ge=1, le=65535, description="Its port.")
    certificate: Path = Field(description="PEM file: the certificate and its chain. Relative paths start at this file.")
    key: Path | None = Field(default=None, description="PEM file of its key, unless `certificate` holds it too.")
    client_ca: Path | None = Field(
        default=None, description="PEM file of authorities: clients then need a certificate of theirs (mutual TLS)."
    )
    tokens: Path = Field(default=Path("tokens.json"), description="What `scoremux tokens` writes.")
    backends: tuple[Backend, ...] = Field(
        default=(),
        description="Further Tritons: tables with `name`, `grpc`, `http` and `ready` (`host:port` of the watcher).",
    )
    request_bytes: int = Field(
        default=2 << 20, ge=1 << 12, le=64 << 20, description="Largest request; each one is held in memory whole."
    )
    connections: int = Field(default=1024, ge=1, description="Most connections of clients; more wait.")
    connections_per_address: int = Field(default=256, ge=1, description="Most of one address; more are closed at once.")
    streams: int = Field(
        default=8,
        ge=1,
        le=100,
        description="Most requests that one HTTP/2 connection has under way; its client's further ones wait.",
    )
    threads: int = Field(default=0, ge=0, le=64, description="HAProxy's threads; 0: one for each core.")
    headers_s: int = Field(default=10, ge=1, description="Seconds that a TLS handshake, and headers, may take.")
    body_s: int = Field(default=30, ge=1, description="Seconds that a request's body may take.")
    idle_s: int = Field(default=60, ge=1, description="Seconds after which a connection without traffic is closed.")
    answer_s: int = Field(default=300, ge=1, description="Seconds that a Triton may take for an answer.")
    drain_s: int = Field(
        default=60, ge=1, description="Seconds that requests in flight have to finish, at a reload or a stop."
    )
    log_all: bool = Field(default=False, description="Log requests that went well too, not only the others.")
    metrics_port: int = Field(
        default=0, ge=0, le=65535, description="Port on 127.0.0.1 of HAProxy's Prometheus metrics; 0: none."
    )

    @field_validator("metrics_port")
    @classmethod
    def _is_another(cls, port: int, info: ValidationInfo) -> int:
        # HAProxy would bind both, and the kernel give half of the clients to the metrics, without TLS.
        if port and port == info.data.get("port"):
            raise PydanticCustomError("port", "{port} is `port` too; choose another", {"port": port})
        return port

    @classmethod
    def read(cls, file: Path) -> FrontDoorConfig:
        """Return a file's configuration, its paths absolute. Raises SetupError naming what is unknown or wrong."""
        try:
            config = check(cls, read_toml(file), str(file))
        except FileNotFoundError as error:
            raise SetupError(f"there is no {file}") from error
        names = [backend.name for backend in config.backends]
        if OWN in names or len(set(names)) < len(names):
            raise SetupError(f"{file}: backends: names must differ, and none may be {OWN!r}")
        paths = {key: getattr(config, key) for key in ("certificate", "key", "client_ca", "tokens")}
        found = {key: file.parent.absolute() / path for key, path in paths.items() if path is not None}
        for key, path in found.items():
            if not path.is_file():
                made = f"scoremux tokens add NAME --tokens {path} --tasks '*'"
                hint = f"; put it back, or make one: {made}" if key == "tokens" else ""
                raise SetupError(f"{file}: {key}: {path} is missing{hint}")
        return config.model_copy(update=found)

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that HAProxy reads only when it is started or reloaded."""
        return tuple(path for path in (self.certificate, self.key, self.client_ca) if path is not None)
