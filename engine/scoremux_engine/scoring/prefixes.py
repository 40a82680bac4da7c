"""Keys and values of what all responses to a task begin with: computed once a version, and kept among its tables."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from scoremux_engine.model.backbone import Backbone
from scoremux_engine.model.buckets import Buckets
from scoremux_engine.model.tables import SizeClass, stack
from scoremux_engine.model.tokens import Tokens
from scoremux_engine.packages.package import TaskPackage
from scoremux_engine.runners.runner import BackboneRunner
from scoremux_engine.scoring.microbatches import pad


class Prefixes:
    """Computes prefixes with the version's own adapter, each alone and in a shape that is a function of it alone.

    So a version's tables have the same bits whenever they are computed. Thread-safe.
    """

    def __init__(self, backbone: Backbone, runner: BackboneRunner) -> None:
        self._backbone = backbone
        self._runner = runner
        self._buckets = Buckets(backbone.spec.max_tokens)

    def add(self, package: TaskPackage) -> TaskPackage:
        """Return the package with the keys and values of its prefix among its tables. Raises RunnerError."""
        ids = list(package.prefix)
        if not ids:
            return package
        spec, own = self._backbone.spec, package.tables
        tokens = Tokens(ids, [0] * len(ids), truncated=False)
        rows = pad([tokens], np.zeros(1, np.int64), self._buckets.of(len(ids)), spec)
        tables = stack([own.tables], spec, SizeClass.of(own.tables, own.outputs), self._runner.dtypes)
        kept = self._runner.keys_and_values(rows, tables)
        prefix = {name: array[0, :, : len(ids)] for name, array in kept.items()}
        return replace(package, tables=replace(own, tables={**own.tables, **prefix}))
