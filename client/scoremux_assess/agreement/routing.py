"""Where a policy stands on the curve of risk against coverage, and what more labelled rows would do."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scoremux_assess.agreement.ratings import Floats, Ints, by_cell
from scoremux_assess.agreement.reliability import COVERAGES, Confidence
from scoremux_assess.decisions.calibration.bounds import most_errors
from scoremux_assess.decisions.policy import AgreementTarget

_WORTH = 0.05
_MOST_ROWS = 1 << 14


@dataclass(frozen=True)
class Routing:
    """Of each task, and after them of all rows; NaN where there is nothing to tell. All float64 [C].

    machine: the share of rows that the policy leaves to the machine; wrong: the share of wrong levels among them.
    error_before: expected calibration error of the greatest probability, which is what there is before a calibration.
    people: the share that would go to people if the policy's threshold were chosen on these rows; rows: how many
    labelled rows would bring it down by a twentieth of all rows or more, at these figures; people_then: to which share.
    """

    machine: Floats
    wrong: Floats
    error_before: Floats
    people: Floats
    rows: Floats
    people_then: Floats


def measure_routes(
    to_people: npt.NDArray[np.bool_] | None, right: npt.NDArray[np.bool_], task: Ints, cells: int
) -> tuple[Floats, Floats]:
    """Return `machine` and `wrong` of `Routing`."""
    if to_people is None or not to_people.any():
        return np.full(cells + 1, np.nan), np.full(cells + 1, np.nan)
    kept = ~to_people
    columns = (np.ones(len(task)), kept.astype(np.float64), (kept & ~right).astype(np.float64))
    rows, machine, wrong = (np.append(table, table.sum()) for table in (by_cell(task, c, cells) for c in columns))
    with np.errstate(invalid="ignore", divide="ignore"):
        return machine / rows, wrong / machine


def routing(
    sure: Confidence, before: Confidence, routes: tuple[Floats, Floats], target: AgreementTarget | None
) -> Routing:
    """Return what is known of routes.

    Args:
        sure, before: Confidence with the calibration and without it.
        routes: What `measure_routes` returned.
        target: The policy's; without an agreement in it, nothing is said of more rows.
    """
    cells = len(sure.error)
    found = np.full((3, cells), np.nan)
    if target is not None and target.exact is not None:
        for cell in range(cells):
            found[:, cell] = _more_rows(
                1 - sure.kept[cell], int(sure.rows[cell].sum()), 1 - target.exact, target.confidence
            )
    return Routing(*routes, before.error, *found)


def _more_rows(wrong: Floats, rows: int, most: float, confidence: float) -> tuple[float, float, float]:
    """Return the share that goes to people with so many rows, how many would lower it, and to which share."""
    now = _people(wrong, rows, most, confidence)
    more = rows
    while rows and more < _MOST_ROWS:
        more *= 2
        then = _people(wrong, more, most, confidence)
        if then <= now - _WORTH:
            return now, float(more), then
    return now, np.nan, np.nan


def _people(wrong: Floats, rows: int, most: float, confidence: float) -> float:
    """Return the share for people if this many rows were labelled and had the expected number of errors."""
    kept = [
        share
        for share, risk in zip(COVERAGES, wrong, strict=True)
        if risk * share * rows <= most_errors(int(np.ceil(share * rows)), most, confidence)
    ]
    return float(1 - max(kept, default=0.0))
