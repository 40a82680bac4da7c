"""HTTP endpoints that change a server: for its watcher alone."""

from __future__ import annotations

RESTRICTED = (
    ("POST", "/v2/repository/index"),
    ("POST", "/v2/repository/models/scorer/load"),
    ("POST", "/v2/repository/models/scorer/unload"),
    ("GET", "/v2/systemsharedmemory/status"),
    ("POST", "/v2/systemsharedmemory/region/x/register"),
    ("POST", "/v2/cudasharedmemory/region/x/register"),
    ("GET", "/v2/trace/setting"),
    ("POST", "/v2/trace/setting"),
    ("POST", "/v2/models/scorer/trace/setting"),
    ("GET", "/v2/logging"),
    ("POST", "/v2/logging"),
)
"""Method and path."""
