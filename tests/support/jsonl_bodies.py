"""A hook of schemathesis (SCHEMATHESIS_HOOKS): how a text becomes a body of JSON Lines."""

import json
from typing import Any

import schemathesis


@schemathesis.serializer("application/jsonl")
def as_lines(_context: Any, value: Any) -> bytes:
    """Send texts as they are, and anything else as one line of JSON."""
    if isinstance(value, bytes):
        return value
    return (value if isinstance(value, str) else json.dumps(value)).encode("utf-8", "surrogatepass")
