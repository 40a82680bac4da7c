"""The front door's configuration: a TOML file."""

import errno
import ipaddress
import ssl
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field, model_validator

from scoremux_engine.scoring.permission import key_id
from scoremux_files.errors import reason
from scoremux_files.settings import check, read_toml
from scoremux_server.errors import SetupError
from scoremux_server.profile import LOOPBACK
from scoremux_server.triton.endpoints import is_loopback

_HOST_AND_PORT = r"^[0-9A-Za-z.:\[\]-]+:[0-9]+$"
_MAKING = {"tokens": "scoremux tokens add NAME --tokens {} --tasks '*'", "grant_key": "openssl rand -hex 32 > {}"}
I_KNOW = "24.10 has remote code execution holes"
DOOR_HEADER = "scoremux-door"
"""In every answer of a watcher whose Triton checks grants: `door_mark` of the grants' key."""
ANY = "any"


class Backend(BaseModel, extra="forbid", frozen=True):
    """One Triton behind the door; each address is ``host:port``.

    Attributes:
        ready: Address of its watcher, asked for `/readyz`.
        ca: PEM file of the authorities that its certificates are verified with: all three connections then use TLS.
        server_name: The DNS name in its certificates.
        plaintext: Allow connections to another machine without TLS.
    """

    name: str = Field(pattern=r"^[0-9A-Za-z_-]{1,64}$")
    grpc: str = Field(pattern=_HOST_AND_PORT)
    http: str = Field(pattern=_HOST_AND_PORT)
    ready: str = Field(pattern=_HOST_AND_PORT)
    ca: Path | None = None
    server_name: str = Field(default="", pattern=r"^[0-9A-Za-z.-]*$")
    plaintext: bool = False

    @model_validator(mode="after")
    def _is_encrypted(self) -> "Backend":
        hosts = [host(address) for address in (self.grpc, self.http, self.ready)]
        if self.ca:
            if self.plaintext:
                raise ValueError("`ca` asks for TLS and `plaintext` for none: give one of them")
            if not self.server_name and (len(set(hosts)) > 1 or is_address(hosts[0])):
                raise ValueError("`server_name` is missing: the DNS name in the certificate of this Triton")
        elif self.server_name:
            raise ValueError("`server_name` is of use with `ca` only")
        elif not self.plaintext and (
            others := [name for name in hosts if name != "localhost" and not is_loopback(name)]
        ):
            raise ValueError(
                f"{others[0]} is another machine, and responses would cross the network unencrypted: give `ca`, the "
                "PEM file to verify its certificate with, or say `plaintext = true`"
            )
        return self

    @property
    def verified_name(self) -> str:
        return self.server_name or host(self.grpc)


def door_mark(key: bytes, safe: bool) -> str:
    """Return the mark that a front door with the same key looks for in a watcher's answers.

    The mark of a Triton that is not `safe`, since it has known security holes, is longer.
    """
    return key_id(key) + ("" if safe else "-unsafe")


def host(address: str) -> str:
    """Return the host of ``host:port``, an IPv6 address without its brackets."""
    return address.rpartition(":")[0].removeprefix("[").removesuffix("]")


def is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


LOCAL = Backend(name="local", grpc=f"{LOOPBACK}:8001", http=f"{LOOPBACK}:8000", ready=f"{LOOPBACK}:8003")
"""What `scoremux serve` starts on this machine, with the default ports of its profiles."""


class FrontDoorConfig(BaseModel, extra="forbid", frozen=True):
    """Every key of door.toml; the descriptions are the documentation in engine/front_door.md."""

    address: str = Field(
        default=LOOPBACK,
        pattern=r"^[0-9A-Za-z.:*-]+$",
        description="Where the door listens, gRPC and HTTP on one port, always with TLS 1.2 or newer. An address other "
        "than loopback needs Triton 26.07 or newer behind the door.",
    )
    port: int = Field(default=8443, ge=1, le=65535, description="Its port.")
    certificate: Path = Field(description="PEM file: the certificate and its chain. Relative paths start at this file.")
    key: Path | None = Field(default=None, description="PEM file of its key, unless `certificate` holds it too.")
    client_ca: Path | None = Field(
        default=None, description="PEM file of authorities: clients then need a certificate of theirs (mutual TLS)."
    )
    tokens: Path = Field(default=Path("tokens.json"), description="The file that `scoremux tokens` writes.")
    grant_key: Path = Field(
        default=Path("grant.key"),
        description="File with a secret of 32 bytes or more that the Tritons behind the door have too "
        "(`scoremux serve --set grant_key_file=FILE`).",
    )
    backends: tuple[Backend, ...] = Field(
        default=(),
        description="The Tritons behind the door: tables with `name`, `grpc`, `http` and `ready` (`host:port` of the "
        "watcher). Without any, `scoremux serve` on this machine with its default ports. A Triton on another machine "
        "needs `ca`, the PEM file to verify its certificate with, and `server_name` unless the host is the name in "
        "that certificate; or `plaintext = true`.",
    )
    api: str = Field(
        default="",
        pattern=rf"^({_HOST_AND_PORT[1:-1]})?$",
        description="`host:port` of `scoremux api` on this machine, which the door then offers as `/v1/…`, `/healthz` "
        "and `/readyz`, with the same tokens and rates.",
    )
    arithmetic: str = Field(
        default="x86-f32",
        pattern=r"^[A-Za-z0-9._-]{1,64}$",
        description="What the Tritons must compute in where there are several, as `/readyz` names it; others get no "
        "requests. `any`: no matter, and a response's score then depends on which one it meets.",
    )
    request_bytes: int = Field(
        default=2 << 20, ge=1 << 12, le=64 << 20, description="Largest request; each one is held in memory whole."
    )
    connections: int = Field(default=1024, ge=1, description="Most connections of clients; more wait, or are closed.")
    connections_per_address: int = Field(
        default=256,
        ge=1,
        description="Most of one address; more are closed at once. If a load balancer hides the clients' addresses, as "
        "many as `connections`.",
    )
    client_s: int = Field(
        default=30,
        ge=1,
        description="Seconds that the headers and the body of a request may each take, of a body for the API its first "
        "`request_bytes`; a TLS handshake 5 at most.",
    )
    check_s: int = Field(
        default=2, ge=1, description="Seconds that a Triton's watcher has to say that it is ready, twice a second."
    )
    drain_s: int = Field(
        default=60, ge=1, description="Seconds that requests in flight have to finish, at a reload or a stop."
    )
    log_all: bool = Field(default=False, description="Log requests that went well too, not only the others.")
    i_know: Literal["", "24.10 has remote code execution holes"] = Field(
        default="",
        description="`24.10 has remote code execution holes`: open the door before an older Triton all the same, in a "
        "closed network.",
    )

    @classmethod
    def read(cls, file: Path) -> "FrontDoorConfig":
        """Return a file's configuration, its paths absolute. Raises SetupError naming what is unknown or wrong."""
        config = check(cls, read_toml(file, SetupError), str(file), SetupError)
        names = [backend.name for backend in config.backends]
        if len(set(names)) < len(names):
            raise SetupError(f"{file}: backends: names must differ")
        if config.api and not is_loopback(host(config.api)):
            raise SetupError(f"{file}: api: {config.api} is another machine; run `scoremux api` on the door's own")
        root = file.parent.absolute()
        keys = ("certificate", "key", "client_ca", "tokens", "grant_key")
        paths = {key: root / path for key in keys if (path := getattr(config, key)) is not None}
        for key, path in paths.items():
            try:
                path.open("rb").close()
            except FileNotFoundError as error:
                command = _MAKING.get(key, "").format(path)
                hint = f"; to make one: {command}" if command else ""
                raise SetupError(f"{file}: {key}: {path} is missing{hint}") from error
            except OSError as error:
                hint = "; the user that runs the door must own it" if error.errno == errno.EACCES else ""
                raise SetupError(f"{file}: {key}: {path} cannot be read: {reason(error)}{hint}") from error
        backends = tuple(b.model_copy(update={"ca": root / b.ca}) if b.ca else b for b in config.backends or (LOCAL,))
        return config.model_copy(update={**paths, "backends": backends})

    @property
    def is_open(self) -> bool:
        """Whether other machines can reach the door."""
        return not is_loopback(self.address)

    def check_pems(self, file: Path) -> None:
        """Raise SetupError naming the key of `file` whose certificate or key is of no use.

        HAProxy itself loads a certificate with the key of another one.
        """
        authorities = {f"backends.{b.name}: ca": b.ca for b in self.backends} | {"client_ca": self.client_ca}
        for key, path in {"certificate": self.certificate, **authorities}.items():
            if path is None:
                continue
            try:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                if key == "certificate":
                    context.load_cert_chain(path, self.key, password="")
                else:
                    context.load_verify_locations(path)
            except OSError as error:  # ssl.SSLError too
                beside = " with its key" if key == "certificate" else ""
                cause = getattr(error, "reason", None) or error.strerror or error
                raise SetupError(f"{file}: {key}: {path} cannot be used{beside}: {cause}") from error
