"""`scoremux serve --adapters`: export the backbone and publish the adapters, as far as that was not done before."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from scoremux_engine.errors import ClosedError
from scoremux_engine.model.backbone import SPEC, Backbone
from scoremux_engine.packages.adapter_folders import BASE, Adapter, find_adapters, same_model
from scoremux_engine.packages.package_files import CONFIG_JSON
from scoremux_engine.packages.task_descriptions import DescribedAdapter, describe
from scoremux_engine.packages.task_table import read_table
from scoremux_engine.store.store import Store
from scoremux_server.errors import SetupError
from scoremux_server.triton.process import LAUNCHER

_NAMED = 3
"""Tasks that a line names."""


@dataclass(frozen=True)
class Adapters:
    """Folders of adapters to serve from a repository.

    given: adapters, or folders that hold some.
    model: where the weights of their base model are, None for where they say.
    tasks: a table of tasks (`scoremux_engine.packages.task_table`), None for none.
    """

    given: Sequence[Path]
    repository: Path
    store: Path
    model: str | None = None
    tasks: Path | None = None

    def publish(self, report: Callable[[str], None]) -> None:
        """Export a backbone where there is none yet, and publish the adapters that never were.

        A version that was rolled back or retired stays so.

        Raises:
            ScoremuxError: An adapter is wrong, of another model or needs a site that is closed, or the export failed.
                Nothing was published then.
        """
        folders = find_adapters(self.given)
        if not (self.repository / "backbone" / "1" / SPEC).is_file():
            report(f"export   the backbone for {len(folders)} adapters; the next start needs none")
            self._export()
        backbone = Backbone.open(self.repository / "backbone" / "1")
        self._refuse_other_model(folders, backbone.spec.source)
        described = describe(folders, backbone, read_table(self.tasks) if self.tasks else None)
        store = Store(self.store)
        before = {line.after for line in store.history.entries() if line.is_live_change} if store.stamp() else set()
        try:
            changes = store.publish([adapter.files for adapter in described], backbone, dry_run=True)
            new = [
                (change.task, adapter)
                for change, adapter in zip(changes, described, strict=True)
                if change.after not in before
            ]
            if new:
                store.publish([adapter.files for _, adapter in new], backbone)
        except ClosedError as error:
            command = shlex.join(["scoremux", *self._arguments, "--replace-store"])
            raise SetupError(
                f"{error.what}. Export the backbone again for all adapters, then serve again; this renames the store, "
                f"so give the folders of all its tasks:\n  {command}"
            ) from error
        report(f"adapters {len(folders)}: {len(new)} published now")
        _tell_made_up(new, report)
        for change in changes:
            if change.after in before and change.before != change.after:
                report(
                    f"adapters {change.task}: version {str(change.after)[:12]} was published before and is not live now"
                )

    @property
    def _arguments(self) -> list[str]:
        model = [self.model, "--same-weights"] if self.model else []
        return ["export", "backbone", *model, "--for", *map(str, self.given), "--out", str(self.repository)]

    def _export(self) -> None:
        # Another process: torch is not to stay in the memory of the one that watches Triton.
        run = [sys.executable, "-c", "from scoremux_cli.app import main; main()", *self._arguments]
        done = subprocess.run([*LAUNCHER, str(os.getpid()), *run], stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            raise SetupError(
                done.stderr.strip().removeprefix("scoremux: ") or f"the export ended with {done.returncode}"
            )

    def _refuse_other_model(self, folders: Sequence[Path], exported: str) -> None:
        for folder in folders:
            base = Adapter.read(folder).base
            # An export of a folder keeps the folder's name alone.
            if self.model is None and base and exported != Path(base).name and not same_model(base, exported):
                raise SetupError(
                    f"{folder / CONFIG_JSON}: {BASE} is {base}, and {self.repository} has a backbone of {exported}; "
                    f"if that has the same weights, say --backbone {exported}"
                )


def _tell_made_up(new: Sequence[tuple[str, DescribedAdapter]], report: Callable[[str], None]) -> None:
    """Say which parts of `task.json` are not the adapters' own, tasks with the same parts in one line."""
    tasks: dict[str, list[str]] = {}
    for task, adapter in new:
        tasks.setdefault(adapter.remark, []).append(task)
    for remark, names in tasks.items():
        if remark:
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            report(f"tasks    {', '.join(names[:_NAMED])}{more}: {remark}")
