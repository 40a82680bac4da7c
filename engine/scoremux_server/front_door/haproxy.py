"""HAProxy: the program, its start, its reloads and its end."""

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from scoremux_server.errors import SetupError
from scoremux_server.triton.processes import ChildProcess

NEEDED = (3, 0)
CONFIG, ACCESS_TOKENS_MAP = "haproxy.cfg", "tokens.map"
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


class Haproxy(ChildProcess):
    """HAProxy in master-worker mode, with the configuration in a folder. It ends with the thread that starts it."""

    def __init__(self, program: Path, folder: Path, log: Path) -> None:
        """Start the program; its output is appended to `log`. Raises SetupError."""
        self.folder = folder
        self._master_socket = folder / "master.sock"
        arguments = [str(program), "-W", "-S", f"{self._master_socket},mode,600", "-f", str(folder / CONFIG)]
        super().__init__(arguments, os.environ, log)

    def reload(self) -> None:
        """Load the configuration again; requests in flight finish as they began. Raises SetupError."""
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(_RELOAD_S)
                connection.connect(str(self._master_socket))
                connection.sendall(b"reload\n")
                with connection.makefile("rb") as answer:
                    loaded = b"Success=1" in answer.read()
        except OSError as error:
            raise SetupError(f"HAProxy does not answer: {str(error) or type(error).__name__}") from error
        if not loaded:
            raise SetupError("HAProxy refuses the new configuration; its own messages say why")

    def stop(self, patience_s: float) -> None:
        """Let requests in flight finish."""
        deadline = time.monotonic() + patience_s
        while self.exit_status is None and time.monotonic() < deadline:
            # Repeatedly: a master that has just started or reloaded executes itself again and may miss one.
            os.kill(self.pid, signal.SIGUSR1)
            time.sleep(0.2)
