"""Which rows are held out together: K folds with every level in each, and equal texts never on two sides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from scoremux_train.data import LabelledResponse, same_text
from scoremux_train.recipe import derived_key


def assign(rows: Sequence[LabelledResponse], folds: int, *seed: object) -> list[int]:
    """Return the fold of each row, 0 … folds − 1, drawn from `seed` alone.

    Texts are dealt in random order, those of rare levels first, each to the fold with the fewest rows of its level.
    """
    texts: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        texts.setdefault(same_text(row.text), []).append(i)
    draw = np.random.Generator(np.random.Philox(key=derived_key(*seed)))
    groups = [list(texts.values())[i] for i in draw.permutation(len(texts))]
    common = Counter(row.level for row in rows)
    level_of = [Counter(rows[i].level for i in group).most_common(1)[0][0] for group in groups]
    counts, sizes = Counter[tuple[int, int]](), Counter[int]()
    fold_of = [0] * len(rows)
    for group, level in sorted(zip(groups, level_of, strict=True), key=lambda pair: (common[pair[1]], -len(pair[0]))):
        fold = min(range(folds), key=lambda f: (counts[f, level], sizes[f]))
        counts[fold, level] += len(group)
        sizes[fold] += len(group)
        for i in group:
            fold_of[i] = fold
    return fold_of
