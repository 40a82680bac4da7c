"""How long a failed request is tried again, and how long it waits in between."""

from __future__ import annotations

import random
from dataclasses import dataclass

from scoremux_client.errors import InputError


@dataclass(frozen=True)
class Retries:
    """Exponential backoff with full jitter: before try n + 1 a uniform draw from 0…min(cap_s, base_s · 2ⁿ⁻¹) seconds.

    patience_s: how long rows are tried again, counted from their first failure, or from the last death of a server that
        they were part of; and how long an outage of all servers is waited for, which does not count among the former.
        0 never tries again. A request that is under way when it ends may still answer.
        A row that may have killed a server also waits, after each recovery, up to 4 · cap_s before it is tried alone.
    contact_s: the same while no server has answered this client yet: a wrong address is said soon.
    """

    patience_s: float = 30.0
    contact_s: float = 3.0
    base_s: float = 0.1
    cap_s: float = 2.0

    def __post_init__(self) -> None:
        for name in ("patience_s", "contact_s", "base_s", "cap_s"):
            if not getattr(self, name) >= 0:
                raise InputError(f"{name} is {getattr(self, name)}; it must be 0 or more")

    def pause_s(self, failures: int) -> float:
        """Return the wait after so many failures in a row, in seconds."""
        # The exponent is bounded, or a long outage overflows.
        return random.uniform(0, min(self.cap_s, self.base_s * 2 ** min(failures - 1, 30)))

    def spread_s(self, deaths: int) -> float:
        """Return the wait of a request that must meet no other client's, in seconds: uniform in 0…cap_s · 2^deaths."""
        return random.uniform(0, self.cap_s * 2 ** min(deaths, 3))


NO_RETRIES = Retries(patience_s=0, contact_s=0)
"""Every failure is said at once."""
