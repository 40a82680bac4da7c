"""Weights of blind decisions beside the machine's levels, so that figures are about all responses.

People read all rows that the machine sends to them and a random share of those that it keeps (read-behind). How many of
both there are is known, so each part of a task counts with its share of all responses, however much of it was read.
"""

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from scoremux_desk.database.schema import ALL, BEHIND, DRAWN, ROUTE

Floats = npt.NDArray[np.float64]

Unit = tuple[str, str]
"""A task as one version scored it."""

Population = Mapping[tuple[str, str, str], float]
"""Task, version and how rows were chosen to be read → how many there are."""

_DESIGNS = {
    BEHIND: (BEHIND, ROUTE, ALL),
    ALL: (ALL, ROUTE),
    DRAWN: (DRAWN,),
    ROUTE: (ROUTE,),
}
"""The first of these that people have read of a unit → the parts that together are all of its responses."""


def weigh(decisions: Sequence[Any], groups: Sequence[Hashable], population: Population) -> tuple[Floats, list[str]]:
    """Return the weight of each decision, and the tasks of which people read only what was sent to them.

    A unit is a task as one version scored it, a part of it what was chosen to be read in one way. Decisions of one part
    share its size in proportion to 1 / probability, times the responses decided as one; then, within each group, those
    of the part are made to add up to its size. Where a group has not read every part of its units, its parts are those
    of all its units together; where one is missing even then, its decisions weigh 0.

    Args:
        decisions: First decisions, columns as in `decision_rows.blind_levels`.
    """
    parts, routed = _parts_by_unit(decisions, population)
    weight = np.array([d.size / (d.read_behind or 1.0) for d in decisions])
    unit_of = [(d.task, d.version) for d in decisions]
    weight *= [
        d.chosen_by in parts.get(unit, ())
        for d, unit in zip(
            decisions,
            unit_of,
            strict=True,
        )
    ]
    used = np.flatnonzero(weight).tolist()
    sizes = {(unit, part): size for unit, of_unit in parts.items() for part, size in of_unit.items()}
    _scale(weight, {n: (unit_of[n], decisions[n].chosen_by) for n in used}, sizes)
    read = {(groups[n], unit_of[n], decisions[n].chosen_by) for n in used}
    units_read = {place[:2] for place in read}
    sparse = {group for group, unit in units_read for part in parts[unit] if (group, unit, part) not in read}
    totals: dict[Any, float] = defaultdict(float)
    for group, unit in units_read:
        for part, size in parts[unit].items():
            totals[group, None if group in sparse else unit, part] += size
    cells = {n: (groups[n], None if groups[n] in sparse else unit_of[n], decisions[n].chosen_by) for n in used}
    incomplete = {cell[0] for cell in totals.keys() - set(cells.values())}
    _scale(weight, cells, {cell: 0.0 if cell[0] in incomplete else size for cell, size in totals.items()})
    return weight, routed


def _scale(weight: Floats, cells: Mapping[int, Hashable], totals: Mapping[Any, float]) -> None:
    """Make the weights of each cell add up to its total."""
    sums: dict[Hashable, float] = defaultdict(float)
    for n, cell in cells.items():
        sums[cell] += weight[n]
    for n, cell in cells.items():
        weight[n] *= totals[cell] / sums[cell]


def _parts_by_unit(decisions: Sequence[Any], population: Population) -> tuple[dict[Unit, dict[str, float]], list[str]]:
    """Return how many responses each part of a unit has, and the tasks of which only routed rows were read.

    A unit of which people read only routed rows is left out where another unit of its task is read as a sample.
    """
    read: dict[Unit, set[str]] = {}
    for d in decisions:
        read.setdefault((d.task, d.version), set()).add(d.chosen_by)
    parts = {}
    partial = set()
    for unit, chosen in read.items():
        first = next((way for way in _DESIGNS if way in chosen), "")
        sizes = {part: population.get((*unit, part), 0.0) for part in _DESIGNS.get(first, ())}
        keeps = population.get((*unit, ""), 0.0)
        if first == BEHIND:
            sizes[BEHIND] += keeps
        elif first == ROUTE and keeps:
            partial.add(unit)
        parts[unit] = {part: size for part, size in sizes.items() if size}
    whole = {task for task, _ in parts.keys() - partial}
    kept = {unit: sizes for unit, sizes in parts.items() if unit not in partial or unit[0] not in whole}
    return kept, sorted({task for task, _ in partial} - whole)
