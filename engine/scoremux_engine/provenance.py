"""What scores: everything besides a row's text and task version that its bits depend on."""

from __future__ import annotations

from dataclasses import astuple, dataclass


@dataclass(frozen=True)
class Provenance:
    """version: of scoremux; runner, device, precision: by name; backbone: digest of the exported backbone."""

    version: str
    runner: str
    device: str
    precision: str
    backbone: str

    @property
    def labels(self) -> tuple[str, ...]:
        """The values in the order of the metric `scoremux_info`."""
        return astuple(self)
