"""Labelled rows of one task as columns: the machine's probabilities and levels, and people's levels."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

LOG_TEMPERATURES = np.linspace(np.log(0.1), np.log(10.0), 47)
"""Logarithms of the temperatures at which the loss is computed; between them it is taken for a parabola."""


@dataclass(frozen=True)
class LabelledScores:
    """B rows of one task.

    Attributes:
        probabilities: Those of the machine before a temperature, float64 [B, L].
        level: The level that the machine gave, int64 [B].
        human: The level that a human gave, int64 [B].
        second: That of a second human, float64 [B], NaN where there is none; None: nowhere.
        pooled: The vectors that the head read, float32 [B, H], NaN where unknown; None: everywhere.
        weight: 1 / the probability with which a row was chosen to be read by people; None: 1.
        student: A number for who wrote it, int64 [B], −1 where that is not known; None: nowhere.
        text: A number for each distinct text, int64 [B]; None: no two are equal.
    """

    probabilities: Floats
    level: Ints
    human: Ints
    second: Floats | None = None
    pooled: npt.NDArray[np.float32] | None = None
    weight: Floats | None = None
    student: Ints | None = None
    text: Ints | None = None

    def __len__(self) -> int:
        return len(self.human)

    @property
    def weights(self) -> Floats:
        """The weight of each row, float64 [B]."""
        return np.ones(len(self)) if self.weight is None else self.weight

    @property
    def seconds(self) -> Floats:
        """The level that a second human gave, float64 [B], NaN where there is none."""
        return np.full(len(self), np.nan) if self.second is None else self.second

    @property
    def students(self) -> Ints:
        """A number for who wrote each row, int64 [B]; −1 where that is not known."""
        return np.full(len(self), -1) if self.student is None else self.student

    @property
    def texts(self) -> Ints:
        """A number for each distinct text, int64 [B]."""
        return np.arange(len(self)) if self.text is None else self.text

    @property
    def distance(self) -> Ints:
        """How far the machine's level is from the human's, int64 [B]."""
        return np.asarray(np.abs(self.level - self.human))

    @cached_property
    def losses(self) -> Floats:
        """Negative log-likelihood of each row's human level at each of `LOG_TEMPERATURES`, float64 [B, T]."""
        logs = np.log(np.maximum(self.probabilities, np.finfo(np.float32).tiny))
        logs -= logs.max(axis=1, keepdims=True, initial=-np.inf)
        of_human = logs[np.arange(len(self)), self.human]
        losses = []
        for power in np.exp(-LOG_TEMPERATURES):
            total = np.exp(logs * power).sum(axis=1)
            losses.append(np.log(total) - power * of_human)
        return np.stack(losses, axis=1)

    def calibrated(self, temperature: float | Floats) -> Floats:
        """Return calibrated probabilities, float64 [B, L]: those of the scorer, but for last bits.

        temperature: of all rows, or of each.
        """
        scaled = self.probabilities ** (1 / np.broadcast_to(temperature, len(self)))[:, None]
        return np.asarray(scaled / scaled.sum(axis=1, keepdims=True))
