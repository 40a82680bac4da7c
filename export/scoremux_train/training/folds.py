"""Which rows are held out together: K folds with every level in each; one student's, and near copies, are in one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from scoremux_assess.labels import similar_texts
from scoremux_assess.labels.labelled_row import LabelledRow
from scoremux_train.recipe import derived_key


def related(rows: Sequence[LabelledRow]) -> list[int]:
    """Return a number for each group of a task's rows that tell of each other: one student's, and near copies."""
    return similar_texts.related([row.response for row in rows], [row.student for row in rows])


def assign(levels: Sequence[int], groups: Sequence[int], folds: int, *seed: object) -> list[int]:
    """Return the fold of each row, 0 … folds − 1, drawn from `seed` alone.

    Groups are dealt in random order, those of rare levels first, each to the fold with the fewest rows of its level.

    Args:
        groups: A number for the group of each row (`related`), which is in one fold.
        seed: What the order is drawn from.
    """
    members: dict[int, list[int]] = {}
    for i, group in enumerate(groups):
        members.setdefault(group, []).append(i)
    draw = np.random.Generator(np.random.Philox(key=derived_key(*seed)))
    in_order = list(members.values())
    dealt = [in_order[i] for i in draw.permutation(len(in_order))]
    common = Counter(levels)
    level_of = [Counter(levels[i] for i in group).most_common(1)[0][0] for group in dealt]
    counts, sizes = Counter[tuple[int, int]](), Counter[int]()
    fold_of = [0] * len(levels)
    for of_group, level in sorted(zip(dealt, level_of, strict=True), key=lambda pair: (common[pair[1]], -len(pair[0]))):
        fold = min(range(folds), key=lambda f: (counts[f, level], sizes[f]))
        counts[fold, level] += len(of_group)
        sizes[fold] += len(of_group)
        for i in of_group:
            fold_of[i] = fold
    return fold_of
