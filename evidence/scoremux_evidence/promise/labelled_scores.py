"""Labelled rows of one task as columns: the machine's probabilities and levels, and people's levels."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from scoremux_evidence.rows.table import Floats, Ints

LOG_TEMPERATURES = np.linspace(np.log(0.1), np.log(10.0), 47)
"""Logarithms of the temperatures at which the loss is computed; between them it is taken for a parabola."""


@dataclass(frozen=True)
class LabelledScores:
    """B rows of one task.

    Attributes:
        probabilities: Those of the machine before a temperature, float64 [B, L].
        level: The level that the machine gave, int64 [B].
        human: The level that a human gave, int64 [B].
        second: That of a second human, float64 [B], NaN where there is none.
        weight: 1 / the probability with which a row was chosen to be read by people.
        student: A number for its cluster, or for who wrote it if no row names a cluster, int64 [B]; −1: not known.
        text: A number for each distinct text, int64 [B], −1 for a text that no other row has.
        pooled: The vectors that the head read, float32 [B, H], NaN where unknown; None: everywhere.
    """

    probabilities: Floats
    level: Ints
    human: Ints
    second: Floats
    weight: Floats
    student: Ints
    text: Ints
    pooled: npt.NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.human)

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
