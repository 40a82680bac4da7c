"""HAProxy: the program, its command, its check of a configuration, and its reloads."""

import os
import re
import shutil
import socket
import subprocess
from pathlib import Path

from scoremux_files.atomic import replace_file
from scoremux_files.errors import writing
from scoremux_server.errors import SetupError

NEEDED = (3, 0)
CONFIG, MASTER_SOCKET = "haproxy.cfg", "master.sock"
_INSTALL = "apt-get install haproxy (3.0 or newer; Debian 13 has it, older releases at haproxy.debian.net)"
_RELOAD_S = 30.0


def find_program(path: str | None = None) -> Path:
    """Return the program in the folders of `path`. Raises SetupError where it is missing or will not do."""
    # Debian puts it where only root's PATH leads.
    program = shutil.which("haproxy", path=path or os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"]))
    if program is None:
        raise SetupError(f"the front door needs HAProxy, which is not installed: {_INSTALL}")
    about = subprocess.run([program, "-vv"], stdout=subprocess.PIPE, text=True, errors="replace", check=False).stdout
    version = re.search(r"version (\d+)\.(\d+)", about)
    if version is None or (int(version[1]), int(version[2])) < NEEDED:
        raise SetupError(f"{program} is {version[0] if version else 'of unknown version'}: {_INSTALL}")
    for feature in ("OPENSSL", "LUA"):
        if f"+{feature}" not in about:
            raise SetupError(f"{program} was built without {feature}: {_INSTALL}")
    return Path(program)


def command(program: Path, folder: Path) -> list[str]:
    """Return the command that runs HAProxy as master and worker with the files of a folder."""
    return [str(program), "-W", "-S", f"{folder / MASTER_SOCKET},mode,600", "-f", str(folder / CONFIG)]


def accept(program: Path, folder: Path, rendered: str, source: Path) -> None:
    """Write haproxy.cfg if HAProxy accepts it. Raises SetupError with HAProxy's own words.

    source: The file that it is made of.
    """
    checked = subprocess.run([program, "-c", "-f", "/dev/stdin"], input=rendered, capture_output=True, text=True)
    if checked.returncode:
        alerts = re.findall(r"ALERT\].*?: (?:config : )?(.+)", checked.stderr)
        raise SetupError(f"HAProxy refuses what {source} asks for: {alerts[0] if alerts else checked.stderr.strip()}")
    with writing(folder, SetupError):
        replace_file(folder / CONFIG, [rendered.encode()], mode=0o600)


def reload(folder: Path) -> None:
    """Have a running HAProxy load the files of a folder again. Raises SetupError."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_RELOAD_S)
            connection.connect(str(folder / MASTER_SOCKET))
            connection.sendall(b"reload\n")
            with connection.makefile("rb") as answer:
                loaded = b"Success=1" in answer.read()
    except OSError as error:
        raise SetupError(f"no HAProxy answers in {folder}: {str(error) or type(error).__name__}") from error
    if not loaded:
        raise SetupError("HAProxy does not load the new configuration; its own messages say why")
