"""Code on the pages: command lines and Python snippets, in the order in which a reader meets them."""

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

from making import ROOT

_NOT_PAGES = ("/adapters/", "tests/data/", "tests/upgrade/")


def tracked() -> list[str]:
    """Return the Markdown pages of the repository."""
    listed = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [page for page in listed.split() if not any(part in page for part in _NOT_PAGES)]


RECORDS = ("CHANGELOG.md", "tests/slow/RESULTS.md")
"""Pages that say what was: commands and links of their time."""

PAGES = tuple(page for page in tracked() if page not in RECORDS)
_FENCE = re.compile(r"^```(\w*)$")


@dataclass(frozen=True)
class Block:
    """language: `python`, `toml`, … of a fenced block; `shell` for an indented one."""

    page: str
    line: int
    language: str
    text: str

    @property
    def where(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """The commands of a shell block without comments, continued lines joined."""
        joined = self.text.replace("\\\n", " ")
        lines = (re.sub(r"\s+#\s.*$", "", line).strip() for line in joined.splitlines())
        return [line for line in lines if line]


def blocks(page: str) -> Iterator[Block]:
    lines = (ROOT / page).read_text(encoding="utf-8").splitlines()
    number = 0
    while number < len(lines):
        start, fence = number, _FENCE.match(lines[number])
        if fence:
            number += 1
            while lines[number] != "```":
                number += 1
            yield Block(page, start + 2, fence[1], "\n".join(lines[start + 1 : number]))
        elif lines[number].startswith("    ") and (not start or not lines[start - 1].strip()):
            while number < len(lines) and (lines[number].startswith("    ") or not lines[number].strip()):
                number += 1
            text = "\n".join(line[4:] for line in lines[start:number]).strip("\n")
            yield Block(page, start + 1, "shell", text)
            continue
        number += 1
