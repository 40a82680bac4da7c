"""Fills in what the distribution requires, when it is built."""

from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface


class DeskRequirements(MetadataHookInterface):
    """`scoremux` of the same version, and the packages of requirements.txt."""

    def update(self, metadata: dict[str, Any]) -> None:
        lines = (Path(self.root) / "requirements.txt").read_text(encoding="utf-8").splitlines()
        packages = [line for line in lines if line and not line.startswith("#")]
        metadata["dependencies"] = [f"scoremux[assess]=={metadata['version']}", *packages]
