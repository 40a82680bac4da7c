"""Files: reading, atomic writing, locks, digests, settings, and rows of data files. Every other package uses it."""

from scoremux_files.atomic import replacing, sync
from scoremux_files.digests import read_key
from scoremux_files.errors import InputError, ScoremuxError, first_of, parsing, reading, writing
from scoremux_files.installed import release
from scoremux_files.locks import locked

__all__ = [
    "InputError", "ScoremuxError", "first_of", "locked", "parsing", "read_key", "reading", "release", "replacing",
    "sync", "writing",
]  # fmt: skip
