"""`scoremux api` as a process."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from serving import SCOREMUX, code
from waiting import free_port, until


@contextmanager
def api_process(folder: Path, *options: str) -> Iterator[tuple[httpx.Client, subprocess.Popen[bytes]]]:
    """Run the API with its database and batches in a folder; give a client of it, and the process."""
    port = str(free_port())
    command = [SCOREMUX, "api", "--database", folder / "reviews.db", "--folder", folder, "--port", port, *options]
    process = subprocess.Popen([str(word) for word in command], stderr=subprocess.DEVNULL)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            until(lambda: code(f"{client.base_url}/readyz") == 200, process)
            yield client, process
    finally:
        process.kill()
        process.wait()
