"""Become another program that ends when the process that started it does: `python launcher.py PARENT PROGRAM …`.

A script of its own, not a `preexec_fn`: that would run Python in a fork of a process with threads.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Ask the kernel for SIGTERM at the parent's death, then run PROGRAM in this process."""
    parent, program = int(sys.argv[1]), sys.argv[2:]
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it died before the kernel was asked
        sys.exit(1)
    os.execv(program[0], program)


if __name__ == "__main__":
    main()
