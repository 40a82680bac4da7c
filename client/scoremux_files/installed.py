"""Which scoremux this is: its version, and the commit that it was built from."""

from contextlib import suppress
from functools import cache
from pathlib import Path

_SHORT = 12


@cache
def commit() -> str:
    """Return the commit, shortened: from a file of the build, or of the checkout; empty where neither says it."""
    import subprocess

    written = Path(__file__).with_name("commit")
    with suppress(OSError):
        if written.is_file():
            return written.read_text(encoding="utf-8").strip()[:_SHORT]
        words = ["git", "-C", str(written.parent), "rev-parse", "HEAD"]
        return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()[:_SHORT]
    return ""


def release() -> str:
    """Return version and commit for people."""
    from importlib.metadata import version

    return f"scoremux {version('scoremux')}, commit {commit() or 'unknown'}"
