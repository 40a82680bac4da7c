"""The front door: HAProxy with files made of door.toml and the tokens. HAProxy signs each request's grant itself."""

import hashlib
import os
import socket
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

from scoremux_engine.scoring.permission import read_key
from scoremux_files.errors import reason, writing
from scoremux_server.errors import SetupError
from scoremux_server.front_door import haproxy
from scoremux_server.front_door.access_tokens import AccessTokenFile
from scoremux_server.front_door.config import FrontDoorConfig, host
from scoremux_server.front_door.haproxy_config import render, write_secrets
from scoremux_server.triton.endpoints import reserve

_ANSWER_S = 2.0


def folder_of(file: Path) -> Path:
    """Return where the files of a door.toml go: systemd's RuntimeDirectory, or a folder of this user's."""
    digest = hashlib.sha256(str(file.absolute()).encode()).hexdigest()[:8]
    usual = Path(tempfile.gettempdir()) / f"scoremux-door-{os.getuid()}-{digest}"
    return Path(os.environ.get("RUNTIME_DIRECTORY") or usual)


def prepare(file: Path, folder: Path) -> FrontDoorConfig:
    """Write what HAProxy loads; haproxy.cfg last, and only if HAProxy accepts it. Raises SetupError or GrantError."""
    program, config = haproxy.find_program(), FrontDoorConfig.read(file)
    config.check_pems(file)
    tokens, key = AccessTokenFile(config.tokens).read(), read_key(config.grant_key)
    with writing(folder, SetupError):
        folder.mkdir(mode=0o700, exist_ok=True)
        about = folder.lstat()
        if folder.is_symlink() or about.st_uid != os.getuid() or about.st_mode & 0o077:
            raise SetupError(f"{folder} must be a folder that its user alone may open: chmod 700, or give --folder")
        write_secrets(folder, tokens, key)
    haproxy.accept(program, folder, render(config, folder, key), file)
    return config


def run(file: Path, folder: Path) -> NoReturn:
    """Replace this process by HAProxy. Raises SetupError or GrantError."""
    config = prepare(file, folder)
    # The kernel would share the port with another process that allows it, and HAProxy does.
    reserve(config.address.replace("*", "0.0.0.0"), config.port, "front door's")
    for backend in config.backends:
        try:
            socket.create_connection((host(backend.ready), int(backend.ready.rpartition(":")[2])), _ANSWER_S).close()
        except OSError as error:
            sentence = "the door opens, and refuses requests until `scoremux serve` runs there"
            print(f"no Triton answers at {backend.ready} ({reason(error)}): {sentence}", file=sys.stderr)
    command = haproxy.command(haproxy.find_program(), folder)
    os.execv(command[0], command)


def reload(file: Path, folder: Path) -> None:
    """Have a running HAProxy load the files as they are now. Requests in flight finish as they began.

    Raises SetupError or GrantError: HAProxy keeps what it has.
    """
    prepare(file, folder)
    haproxy.reload(folder)
