"""What one run of a server keeps on the machine: a temporary folder and regions of shared memory."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import tempfile
from pathlib import Path

from scoremux_files.errors import writing
from scoremux_server.errors import SetupError

SHARED_MEMORY = Path("/dev/shm")
RUN = "/tmp/scoremux-RUN"
"""Stands for a run's folder in what `--print-config` prints."""


class RunFiles:
    """The private folder of one start of Triton or of the front door, and the regions that bear its name.

    The folder is kept when Triton restarts (the scorer's `run_folder`).
    """

    def __init__(self) -> None:
        name = secrets.token_hex(8)
        self.shm_prefix = f"scoremux_{name}_"
        with writing(Path("a temporary folder"), SetupError):
            self.path = Path(tempfile.gettempdir()) / f"scoremux-{name}"

    def make(self) -> None:
        """Make the folder if it is missing. Raises SetupError."""
        with writing(self.path, SetupError):
            self.path.mkdir(mode=0o700, exist_ok=True)
            if self.path.lstat().st_uid != os.geteuid():
                raise PermissionError(errno.EPERM, "it belongs to another user")

    def remove_regions(self) -> None:
        """Remove the shared memory that this run's processes left; they must have ended."""
        for region in SHARED_MEMORY.glob(f"{self.shm_prefix}*"):
            region.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove regions and folder."""
        self.remove_regions()
        shutil.rmtree(self.path, ignore_errors=True)
