"""Where rows/s and sizes come from, other than a measurement: a result file, a repository."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any

from scoremux_engine.backbone import Backbone
from scoremux_engine.bank.pool import Pool
from scoremux_engine.packages.package import TaskPackage
from scoremux_engine.packages.source import Folder
from scoremux_engine.store.reader import StoreReader
from scoremux_engine.tables import SizeClass
from scoremux_server.capacity.plan import Rate, Sizes
from scoremux_server.errors import SetupError

_MOST_PACKAGES = 100


def rate_of(results: Path, runner: str) -> Rate:
    """Return rows/s of one core from the newest row of `benchmarks.precisions` that has this runner.

    Raises SetupError where the file cannot be read, or naming the runners that it has.
    """
    try:
        rows = [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]
        found: dict[str, dict[str, Any]] = {name: row for row in rows for name in row["runners"]}
        row = found[runner]
        per_core = row["runners"][runner]["rows_per_s"] / row["cores"]
    except OSError as error:
        raise SetupError(f"{results} cannot be read: {error.strerror}") from error
    except KeyError as error:
        if error.args[0] == runner:
            raise SetupError(f"{results} has no runner {runner!r}; it has {', '.join(sorted(found))}") from error
        raise SetupError(f"{results} is no result file of benchmarks.precisions: no {error.args[0]}") from error
    except (ValueError, TypeError) as error:
        raise SetupError(f"{results} is no result file of benchmarks.precisions") from error
    source = f"{runner}, {row['processor']}, {row['when'][:10]}"
    return Rate(per_core, source=source, measured_on=row["cores"])


def sizes_of(repository: Path, store: Path | None = None) -> Sizes:
    """Return the mean sizes of a repository's live tasks; in the bank: in float32, which bfloat16 halves nearly.

    Raises SetupError where there is no task, BackboneError or StoreError where something cannot be read.
    """
    backbone, reader = Backbone.open(repository / "backbone" / "1"), StoreReader(store or repository / "store")
    folders = [reader.package_folder(digest) for digest in islice(reader.manifest().tasks.values(), _MOST_PACKAGES)]
    if not folders:
        raise SetupError(f"{reader.folder} has no task to measure; publish one, or leave its sizes out")
    packages = (TaskPackage.read(Folder(folder), backbone) for folder in folders)
    shapes = [SizeClass.of(package.tables.tables, package.levels) for package in packages]
    return Sizes(
        bank_bytes=fmean(Pool.bytes_of(backbone.spec, shape, {}) for shape in shapes),
        package_bytes=fmean(sum(file.stat().st_size for file in folder.iterdir()) for folder in folders),
    )
