"""sha256 digests of files and of sets of files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

_BLOCK_BYTES = 1 << 20


def bytes_digest(data: bytes) -> str:
    """Return the sha256 of bytes, in hex."""
    return hashlib.sha256(data).hexdigest()


def file_digest(path: Path) -> str:
    """Return the sha256 of a file's bytes, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def set_digest(digests: Mapping[str, str]) -> str:
    """Return the sha256 of named digests: the hash of the sorted lines ``<digest>  <name>``, as sha256sum prints."""
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))
    return bytes_digest(lines.encode())
