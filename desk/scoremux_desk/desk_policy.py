"""The programme's rules of reading: the table `[review]` of its policy file.

Every key may be left out. `examples/policy.toml` explains them.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from scoremux_files.settings import read_table

_Share = Annotated[float, Field(ge=0, le=1)]
_Positive = Annotated[float, Field(gt=0)]
_NotNegative = Annotated[float, Field(ge=0)]


class DeskPolicy(BaseModel, extra="forbid", frozen=True, strict=True, allow_inf_nan=False):
    """Rules of reading."""

    order: Literal["uncertainty", "time"] = "uncertainty"
    second_reads: _Share = 0.0
    # Of a response that goes to people for its confidence, traits with this confidence or more are the machine's.
    sure_traits: _Share | None = None
    adjudicate: Literal["non-exact", "non-adjacent", "never"] = "non-exact"
    validity: _Share = 0.0  # of papers with a known level among what a rater reads
    # Shares of exact levels with which raters qualify for tasks of 2, of 3, and of 4 or more levels.
    pass_marks: list[_Share] = Field(default=[0.9, 0.8, 0.7], min_length=3, max_length=3)
    control: int | None = Field(default=None, ge=20)  # newest validity papers of a task that `control_limit` is for
    feedback: int | None = Field(default=None, ge=2)  # validity papers after which a rater sees how they decided them
    machine: Literal["never", "after", "before"] = "never"  # when a rater may see its score
    groups: bool = True  # whether duplicates are decided together
    across_administrations: bool = False
    lease_s: _Positive = 900.0
    aside_s: _Positive = 86_400.0  # how long a response that was put aside stays with its rater
    undo_s: _Positive = 600.0
    guard_s: _NotNegative = 0.7  # no decision counts so soon after a response appears
    fast_s: _NotNegative = 2.0  # faster decisions are marked, and left out of agreement
    confirm: bool = False  # whether a decision takes two presses

    def pass_mark(self, levels: int) -> float:
        """Return the share of exact levels with which a rater qualifies for a task with a number of levels."""
        return self.pass_marks[min(max(levels, 2), 4) - 2]

    def control_limit(self, levels: int, papers: int) -> float:
        """Return the lower control limit of the share of exact levels: mark − 3 √(mark (1 − mark) / papers)."""
        mark = self.pass_mark(levels)
        return mark - 3 * math.sqrt(mark * (1 - mark) / papers)

    @classmethod
    def read(cls, path: Path) -> DeskPolicy:
        """Read a policy file. Raises InputError naming the key that is wrong."""
        return read_table(path, "review", cls)
