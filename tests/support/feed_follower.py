"""A follower of the change feed that may be killed at any time.

    python feed_follower.py FILE URL…

follows the changes from any of some APIs, and writes each page to a file; it goes on at the last cursor there.
"""

import json
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx


def pages(file: Path) -> Iterator[dict[str, Any]]:
    """Yield the pages that a follower has written whole."""
    for line in file.read_bytes().splitlines(keepends=True) if file.exists() else ():
        if line.endswith(b"\n"):
            yield json.loads(line)


def follow(name: str, *urls: str) -> None:
    """Write pages to a file until killed."""
    file = Path(name)
    cursor = next((page["cursor"] for page in reversed([*pages(file)])), None)
    whole = b"".join(json.dumps(page).encode() + b"\n" for page in pages(file))
    file.write_bytes(whole)  # without half a line
    with httpx.Client(timeout=40) as client, file.open("ab", buffering=0) as out:
        while True:
            asked = {"wait": 2, **({"after": cursor} if cursor else {})}
            try:
                answer = client.get(f"{random.choice(urls)}/v1/changes", params=asked)
            except httpx.TransportError:
                time.sleep(0.05)
                continue
            if answer.status_code == 200 and answer.json()["cursor"] != cursor:
                cursor = answer.json()["cursor"]
                out.write(json.dumps({**answer.json(), "came_at": time.time()}).encode() + b"\n")
            elif answer.status_code != 200:
                assert answer.status_code >= 500, answer.text
                time.sleep(0.05)


if __name__ == "__main__":
    follow(*sys.argv[1:])
