"""Processes that are killed and started again."""

import signal
import subprocess
from pathlib import Path

from serving import SCOREMUX, code
from waiting import free_port, until


class Killable:
    """A process. output: gets what it says; url: where it listens."""

    def __init__(self, output: Path, *command: object, url: str = "") -> None:
        self.url, self._output, self._command = url, output, [str(word) for word in command]
        self.start()

    def start(self) -> None:
        with self._output.open("ab") as file:
            self._process = subprocess.Popen(self._command, stdout=file, stderr=file)

    def kill(self) -> None:
        """kill -9. Fails if the process had ended by itself."""
        assert self._process.poll() is None, self._output.read_text()[-2000:]
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        """SIGTERM, as a service manager does."""
        self._process.terminate()
        self._process.wait(60)

    def restart(self) -> None:
        self.kill()
        self.start()

    def wait_for(self, path: str) -> None:
        """Wait until a GET is answered with 200."""
        until(lambda: code(self.url + path) == 200, self._process, self._output.read_text)


def listening(output: Path, *words: object) -> Killable:
    """Start a subcommand of `scoremux` on a free port."""
    port = free_port()
    return Killable(output, SCOREMUX, *words, "--port", port, url=f"http://127.0.0.1:{port}")
