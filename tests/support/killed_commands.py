"""A process that is killed at a chosen operation on a file, so that a slow or a fast machine is killed at the same one.

As a command: `killed_commands.py FOLDER NUMBER LATER_S ARGUMENTS…` runs `scoremux ARGUMENTS…`.
"""

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

_AUDITED = {"open", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.truncate", "os.utime"}


def kill_at(folder: Path, number: int, later_s: float = 0.0) -> None:
    """Kill this process at its `number`-th operation on a file below `folder`, counted from 1, or so much later."""
    count = 0

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if event not in _AUDITED or not str(arguments[0]).startswith(str(folder)):
            return
        count += 1
        if count == number:
            timer = threading.Timer(later_s, die)
            timer.daemon = True
            timer.start() if later_s else die()

    sys.addaudithook(audit)


def _main() -> None:
    from scoremux.app import main

    folder, number, later_s, *arguments = sys.argv[1:]
    sys.argv = ["scoremux", *arguments]
    kill_at(Path(folder), int(number), float(later_s))
    main()


if __name__ == "__main__":
    _main()
