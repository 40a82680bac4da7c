"""Rows on which promises are tested: equal texts once, weighted, with the students who wrote them."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from scoremux_assess.calibration.labelled_scores import LabelledScores
from scoremux_assess.labels.ratings import Floats, Ints, own_numbers
from scoremux_decide.apply import calibrated


@dataclass(frozen=True)
class RowsUnderTest:
    """B distinct texts of one or of several tasks. The levels of equal texts are averaged.

    Attributes:
        confidence: Calibrated probability of the machine's level, float64 [B], the very bits that the scorer gives.
        severe: Calibrated probability that it is two levels off or more, float64 [B].
        errors: Share of wrong levels, float64 [B]: 0 or 1 but for equal texts.
        critical: Share of levels two or more off.
        worse: Share of rows where the machine is wrong and a second human right; NaN without a second human.
        better: Share of rows where a second human alone is wrong.
        weight: How many rows each stands for.
        student: Who wrote it, int64 [B]; −1 where that is not known.
    """

    confidence: Floats
    severe: Floats
    errors: Floats
    critical: Floats
    worse: Floats
    better: Floats
    weight: Floats
    student: Ints

    def __len__(self) -> int:
        return len(self.confidence)

    @classmethod
    def of(cls, rows: LabelledScores, temperature: float | Floats) -> "RowsUnderTest":
        """Return one task's rows. temperature: of all rows, or of each."""
        each = np.broadcast_to(temperature, len(rows)).tolist()
        columns = zip(rows.probabilities.tolist(), rows.level.tolist(), each, strict=True)
        confidence = [calibrated(probabilities, value)[level] for probabilities, level, value in columns]
        shares = rows.calibrated(temperature)
        far = np.abs(np.arange(shares.shape[1])[None, :] - rows.level[:, None]) > 1
        wrong = rows.distance > 0
        disagrees = rows.second != rows.human
        has_second = ~np.isnan(rows.second)
        table = (
            np.array(confidence, dtype=np.float32).astype(np.float64),
            (shares * far).sum(axis=1),
            wrong,
            rows.distance > 1,
            np.where(has_second, wrong & ~disagrees, np.nan),
            np.where(has_second, ~wrong & disagrees, np.nan),
        )
        _, first, text = np.unique(own_numbers(rows.text), return_index=True, return_inverse=True)
        weight = np.bincount(text, rows.weight, len(first)).astype(np.float64)
        sums = [np.bincount(text, rows.weight * column, len(first)) for column in table]
        confidence_, severe, errors, critical, worse, better = (column / weight for column in sums)
        return cls(
            confidence_,
            severe,
            errors,
            critical,
            worse,
            better,
            weight,
            rows.student[first],
        )

    @classmethod
    def joined(cls, parts: "Sequence[RowsUnderTest]") -> "RowsUnderTest":
        """Return the rows of all parts; a student is the same in all of them."""
        return cls(*(np.concatenate([getattr(part, column.name) for part in parts]) for column in fields(cls)))

    def take(self, rows: Ints) -> "RowsUnderTest":
        return RowsUnderTest(*(getattr(self, column.name)[rows] for column in fields(self)))

    def ranked(self) -> "RowsUnderTest":
        """Return the rows in order of their confidence, the most confident first."""
        return self.take(np.argsort(-self.confidence, kind="stable"))

    def share_below(self, least: float | None) -> float:
        """Return the share of rows that a threshold sends to people; None sends all."""
        if least is None or not len(self):
            return 1.0
        return round(
            float(self.weight[self.confidence < least].sum() / self.weight.sum()),
            6,
        )

    def numbered_students(self) -> Ints:
        """Return a number from 0 for each student, [B]; a row without a student has one of its own."""
        return np.asarray(np.unique(own_numbers(self.student), return_inverse=True)[1])

    def correlation(self) -> float:
        """Return how alike the errors of one student's rows are, beyond their confidences; from 0 to 1.

        The intraclass correlation of e − (1 − confidence), by moments, and one standard error more.
        """
        student = self.numbered_students()
        residual = self.errors - (1 - self.confidence)
        counts = np.bincount(student)
        pairs = float((counts * (counts - 1)).sum())
        if not pairs:
            return 0.0
        totals = np.bincount(student, residual)
        products = float((totals**2).sum() - (residual**2).sum())
        estimate = products / pairs / max(float((residual**2).mean()), 1e-12)
        return float(np.clip(estimate + np.sqrt(2 / pairs), 0, 1))


def effective_rows(rows: RowsUnderTest, correlation: float) -> Floats:
    """Return how many independent rows of equal weight tell as much as the first k rows, float64 [B], for each k.

    (Σ w)² / ((1 − ρ) Σ w² + ρ Σ over students (Σ w)²), after Kish (1965): k where weights are equal and each row is
    another student's.
    """
    weight = rows.weight
    student = rows.numbered_students()
    order = np.argsort(student, kind="stable")
    running = np.cumsum(weight[order])
    first = np.flatnonzero(np.diff(student[order], prepend=-1))
    before = np.repeat(
        running[first] - weight[order][first],
        np.diff(np.append(first, len(order))),
    )
    earlier = np.empty_like(weight)
    earlier[order] = running - weight[order] - before
    squares = np.cumsum(weight**2)
    by_student = np.cumsum(weight**2 + 2 * earlier * weight)
    return np.asarray(np.cumsum(weight) ** 2 / ((1 - correlation) * squares + correlation * by_student))
