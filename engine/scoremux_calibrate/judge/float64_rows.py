"""A text and its version's package → logits in float64."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from scoremux_calibrate.judge.float64_runner import Float64Runner
from scoremux_engine.bank.residents import Version
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.model.tables import size_class, stack
from scoremux_engine.scoring.computation import add_prefix, pad
from scoremux_engine.store.reader import StoreReader


class Float64Scorer:
    """Computes rows of any versions of a store in float64."""

    def __init__(self, backbone: Backbone, store: StoreReader) -> None:
        self._backbone = backbone
        self._store = store
        self._runner = Float64Runner(backbone)

    def version(self, digest: str) -> Version:
        """Read a version and, where it has a prefix, compute that. Raises PackageError."""
        package = self._store.read_package(digest, self._backbone, np.float64)
        package = add_prefix(package, self._backbone, self._runner)
        return Version.of(package, size_class(package.tables.tables, package.outputs))

    def logits(self, version: Version, text: str) -> npt.NDArray[np.float64]:
        """Return a response's logits, float64 [outputs]. The row is computed alone, which takes the least memory."""
        spec = self._backbone.spec
        tables = stack([version.tables], spec, version.size, self._runner.dtypes)
        (tokens,) = self._backbone.tokenizer.encode([version.task.render(text)])
        before = version.prefix_tokens(tokens.ids, spec.pad_id)
        rest = tokens.after(before)
        inputs = pad([rest], np.zeros(1, np.int64), self._backbone.buckets.of(len(rest.ids)), spec, [before])
        outputs = self._runner.run(inputs, tables if before else tables.bare)
        return np.asarray(outputs.logits[0, : version.outputs], np.float64)
