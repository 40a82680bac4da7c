"""Writes the commit into the wheel, for `scoremux --version`, `/readyz` and logs, and the page of the registry.

README's links lead to files of the repository. Where its address is known (SCOREMUX_REPOSITORY, or GITHUB_REPOSITORY in
GitHub's workflows), the package's page has them whole, at the commit that it was built from.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

_FILE = "scoremux_files/commit"
_LINK = re.compile(r'(\]\(|src="|srcset=")(?!https?:|#)([^)"\s]+)')
_PICTURES = (".svg", ".webp")


class CommitHook(BuildHookInterface[Any]):
    """An editable installation asks git when it runs, and gets no file."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable" or self.target_name != "wheel":
            return
        self._folder = tempfile.TemporaryDirectory()
        path = Path(self._folder.name) / "commit"
        path.write_text(_commit(self.root), encoding="utf-8")
        build_data["force_include"][str(path)] = _FILE


class PageHook(MetadataHookInterface):
    """README with whole links, and the addresses of the project."""

    def update(self, metadata: dict[str, Any]) -> None:
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        if address := repository():
            metadata["urls"] = {
                "Source": address,
                "Documentation": f"{address}/blob/HEAD/docs/README.md",
                "Changelog": f"{address}/blob/HEAD/CHANGELOG.md",
                "Issues": f"{address}/issues",
            }
            text = with_whole_links(text, address, _commit(self.root) or "HEAD")
        metadata["readme"] = {"content-type": "text/markdown", "text": text}


def repository() -> str:
    """Return the address of the repository, empty where it is unknown."""
    of_github = os.environ.get("GITHUB_REPOSITORY")
    return os.environ.get("SCOREMUX_REPOSITORY") or (f"https://github.com/{of_github}" if of_github else "")


def with_whole_links(text: str, address: str, commit: str) -> str:
    """Return a page of the repository's root whose links and pictures work elsewhere."""

    def whole(link: re.Match[str]) -> str:
        kind = "raw" if link[2].endswith(_PICTURES) else "blob"
        return f"{link[1]}{address}/{kind}/{commit}/{link[2]}"

    return _LINK.sub(whole, text)


def _commit(root: str) -> str:
    if given := os.environ.get("SCOREMUX_COMMIT"):
        return given
    words = ["git", "-C", root, "rev-parse", "HEAD"]
    try:
        return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""
