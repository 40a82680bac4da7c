"""Run the commands of the tutorial's page in order: `make tutorial`.

    python examples/tutorial/run.py [FOLDER] [--free-ports] [--pictures]

FOLDER (`tutorial` by default) is where a reader would be. Commands that serve go on in the background until the end.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

HERE = Path(__file__).resolve().parent
FIRST = "## 1."
"""The heading before which a reader sets up what runs this script."""

SERVES = re.compile(r"scoremux (serve|review scored) ")
GRPC, DESK, OTHERS = "8001", "8080", {"http": "8000", "metrics": "8002", "watch": "8003"}
"""Ports of the page: of the server, of the desk, and those of the server that the page does not name."""

START_S = 1800.0


def commands() -> list[str]:
    """Return the commands of the page: the lines of its indented blocks."""
    page = (HERE / "README.md").read_text(encoding="utf-8").partition(FIRST)[2]
    return [line.strip() for line in page.splitlines() if line.startswith("    ")]


def free_port() -> str:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])


class Reader:
    """Somebody who types the commands in a folder. other_ports: other ports than those of the page are taken."""

    def __init__(self, folder: Path, other_ports: bool) -> None:
        self.folder = folder
        self.environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        names = (GRPC, DESK, *OTHERS.values())
        self.ports = {port: free_port() if other_ports else port for port in names}
        self._running = ExitStack()

    def run(self, command: str) -> None:
        """Run a command to its end, or until what it starts is ready. Raises SystemExit where it fails."""
        print(f"$ {command}", flush=True)
        line, started = self._here(command), time.monotonic()
        if assignment := re.fullmatch(r"(\w+)=(.+)", line):
            shown = subprocess.run(["bash", "-c", f"echo {assignment[2]}"], env=self.environment, capture_output=True)
            self.environment[assignment[1]] = shown.stdout.decode().strip()
        elif SERVES.match(line):
            self._running.enter_context(self._serving(line))
        else:
            status = subprocess.run(["bash", "-c", line], cwd=self.folder, env=self.environment).returncode
            if status:
                raise SystemExit(f"exit status {status}: {command}")
        print(f"[{time.monotonic() - started:.0f} s]\n", flush=True)

    def close(self) -> None:
        """Stop what still runs, the last first."""
        self._running.close()

    def _here(self, command: str) -> str:
        """Return a command with this checkout's paths and this run's ports."""
        line = command.replace("../examples/tutorial", str(HERE))
        for port in (GRPC, DESK):
            line = line.replace(f"localhost:{port}", f"localhost:{self.ports[port]}")
        if line.startswith("scoremux serve "):
            given = {"grpc": GRPC, **OTHERS}
            line += "".join(f" --set {name}_port={self.ports[port]}" for name, port in given.items())
        return f"{line} --port {self.ports[DESK]}" if line.startswith("scoremux review scored ") else line

    @contextmanager
    def _serving(self, line: str) -> Iterator[None]:
        ready = f"{self.ports[OTHERS['watch']]}/readyz" if " serve " in line else f"{self.ports[DESK]}/login"
        with subprocess.Popen(["bash", "-c", f"exec {line}"], cwd=self.folder, env=self.environment) as process:
            try:
                deadline = time.monotonic() + START_S
                while not answers(f"http://127.0.0.1:{ready}"):
                    if process.poll() is not None or time.monotonic() > deadline:
                        raise SystemExit(f"not ready: {line}")
                    time.sleep(0.2)
                yield
            finally:
                process.terminate()


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def main() -> None:
    parser = argparse.ArgumentParser(description="Run the commands of the tutorial's page.")
    parser.add_argument("folder", type=Path, nargs="?", default=HERE.parents[1] / "tutorial")
    parser.add_argument("--free-ports", action="store_true", help="take other ports than those of the page")
    parser.add_argument("--pictures", action="store_true", help="take the page's pictures again, with Chromium")
    arguments = parser.parse_args()
    shutil.rmtree(arguments.folder, ignore_errors=True)
    arguments.folder.mkdir(parents=True)
    started, reader = time.monotonic(), Reader(arguments.folder.resolve(), arguments.free_ports)
    try:
        for command in commands():
            if arguments.pictures and "rater.py" in command:
                reader.run(command.replace("rater.py", "pictures.py"))
            reader.run(command)
    finally:
        reader.close()
    print(f"{len(commands())} commands in {(time.monotonic() - started) / 60:.0f} min")


if __name__ == "__main__":
    main()
