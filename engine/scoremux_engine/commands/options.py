"""Options that several commands share, and the store and backbone they name."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from scoremux_engine.model.backbone import Backbone

StoreOption = Annotated[Path, Option(help="Folder of the store (REPO/store).")]
RepositoryArgument = Annotated[Path, Argument(help="Model repository with a backbone and a store.")]
OtherStoreOption = Annotated[Path | None, Option(help="Folder of task packages (default: REPOSITORY/store).")]
BackboneOption = Annotated[Path | None, Option(help="Folder of the exported backbone (default: next to the store).")]
JsonOption = Annotated[bool, Option("--json", help="Print JSON instead of a table.")]
DryRunOption = Annotated[bool, Option("--dry-run", help="Check everything, change nothing.")]


def open_backbone(store: Path, folder: Path | None) -> Backbone:
    """Return the backbone in `folder`, or the one next to the store. Raises BackboneError."""
    return Backbone.open(folder or store.parent / "backbone" / "1")
