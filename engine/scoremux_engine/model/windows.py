"""Windows: a text that is longer than a task's windows is read in several, and its outputs are their mean."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field

Floats = npt.NDArray[np.float32]


class Windows(BaseModel, extra="forbid", frozen=True):
    """`windows` of `input` in `task.json`: how a long response is read.

    tokens: The most tokens of a window, with the special tokens and the text around the response.
    overlap: How many tokens of the response two neighbouring windows share.
    most: The most windows of a response; the end of a longer one is cut.
    """

    tokens: int = Field(ge=1)
    overlap: int = Field(default=32, ge=0)
    most: int = Field(default=8, ge=1, le=64)

    def most_tokens(self, room: int) -> int:
        """Return how many tokens of a response its windows can hold; room: how many of them one window holds."""
        return self.most * (room - self.overlap) + self.overlap

    def spans(self, tokens: int, room: int) -> list["Span"]:
        """Return the windows of a response with this many tokens, more than `room`, which one window holds.

        The fewest windows of equal length that share `overlap` tokens with the next: for n windows of N tokens, window
        k is [⌊k·M/n⌋, ⌊(k+1)·M/n⌋ + overlap) with M = N − overlap.
        """
        new = tokens - self.overlap
        count = -(-new // (room - self.overlap))
        starts = [number * new // count for number in range(count + 1)]
        spans = [Span(start, after + self.overlap, after - start) for start, after in pairwise(starts)]
        return [spans[0]._replace(adds=spans[0].stop), *spans[1:]]


class Span(NamedTuple):
    """A window: its tokens of the response, [start, stop), and how many of them no earlier window has."""

    start: int
    stop: int
    adds: int


def weighted_mean(values: Floats, weights: Sequence[int]) -> Floats:
    """mean = (w[0]·v[0] + w[1]·v[1] + …) / Σ w

    values float32 [n, W], of the n windows of one text; weights: the tokens that each window adds. Products and sums
    are rounded to float32 one after the other, in the order of the windows, so the bits are the same on every machine.
    One window keeps its values.
    """
    mean: Floats = values[0]
    if len(values) > 1:
        weighted = values * np.array(weights, np.float32)[:, None]
        mean = weighted[0]
        for row in weighted[1:]:
            mean = mean + row
        mean = mean / np.float32(sum(weights))
    return mean
