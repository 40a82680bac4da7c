"""A text and its version's package → logits in float64."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from scoremux_engine.bank.residents import Version
from scoremux_engine.judge.exact_runner import ExactRunner
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.model.tables import size_class, stack
from scoremux_engine.model.tokens import Tokens
from scoremux_engine.scoring.computation import add_prefix, pad
from scoremux_engine.store.reader import StoreReader


class ExactScorer:
    """Computes rows of any versions of a store in float64, with equal bits on every machine."""

    def __init__(self, backbone: Backbone, store: StoreReader) -> None:
        self._backbone = backbone
        self._store = store
        self._runner = ExactRunner(backbone)

    def version(self, digest: str) -> Version:
        """Read a version and, where it has a prefix, compute that. Raises PackageError."""
        package = self._store.read_package(digest, self._backbone, np.float64)
        package = add_prefix(package, self._backbone, self._runner)
        return Version.of(package, size_class(package.tables.tables, package.outputs))

    def logits(self, version: Version, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """Return float64 [B, outputs]: of each response in its own bucket, whatever its neighbours are."""
        spec, buckets = self._backbone.spec, self._backbone.buckets
        out = np.zeros((len(texts), version.outputs))
        tables = stack([version.tables], spec, version.size, self._runner.dtypes)
        by_shape: dict[tuple[int, int], list[tuple[int, Tokens]]] = {}
        all_tokens = self._backbone.tokenizer.encode([version.task.render(text) for text in texts])
        for place, tokens in enumerate(all_tokens):
            before = version.prefix_tokens(tokens.ids, spec.pad_id)
            rest = tokens.after(before)
            by_shape.setdefault((buckets.of(len(rest.ids)), before), []).append((place, rest))
        for (bucket, before), rows in by_shape.items():
            places = [place for place, _ in rows]
            group = np.zeros(len(rows), np.int64)
            inputs = pad([tokens for _, tokens in rows], group, bucket, spec, [before] * len(rows))
            outputs = self._runner.run(inputs, tables if before else tables.bare)
            out[places] = outputs.logits[:, : version.outputs]
        return out

    def bounds(self, version: Version, text: str) -> npt.NDArray[np.float64]:
        """Return how far float32 can take each logit from the largest one; float64 [outputs].

        A row is computed whole, without padding: what a prefix keeps for it is made by the same operations.
        """
        tables = stack([version.tables], self._backbone.spec, version.size, self._runner.dtypes).bare
        (tokens,) = self._backbone.tokenizer.encode([version.task.render(text)])
        inputs = pad([tokens], np.zeros(1, np.int64), max(1, len(tokens.ids)), self._backbone.spec, [0])
        return self._runner.difference_bounds(inputs, tables, version.outputs)[1]
