"""Two scrapes → what happened between them: rates, means, quantiles."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from scoremux_cli.top.scrape import Labels, Scrape

STAGES = ("tokenise", "tables", "compute", "post")
_OF_SCORER = {"model": "scorer"}


@dataclass(frozen=True)
class Reading:
    """A server between two scrapes; with one scrape alone there are no rates. None: not known."""

    now: Scrape
    before: Scrape | None = None

    @property
    def state(self) -> str:
        """Return `ready`, what the watcher is doing instead, `up` where no watcher was asked, or `down`."""
        if not self.now.samples:
            return "down"
        doing = [labels.get("state", "") for labels, value in self.now.samples.get("scoremux_state", ()) if value]
        if not doing:
            return "up" if not self.now.down else "watcher down"
        if self.value("scoremux_ready"):
            return "ready" if not self.now.down else "ready, Triton's metrics down"
        return f"not ready ({doing[0]})"

    @property
    def is_down(self) -> bool:
        return self.state not in ("ready", "up")

    def value(self, name: str, **labels: str) -> float | None:
        """Return a metric's value of now, summed over its other labels; None for NaN too."""
        value = self.now.total(name, _having(labels))
        return None if value is None or math.isnan(value) else value

    def label(self, name: str, label: str) -> str | None:
        """Return the value of a label of a metric's first series."""
        found = [labels[label] for labels, _ in self.now.samples.get(name, ()) if labels.get(label)]
        return found[0] if found else None

    def growth(self, name: str, wanted: Callable[[Labels], bool] = lambda _: True) -> float | None:
        """Return how much a counter grew; one that began anew, all of it."""
        now = self.now.total(name, wanted)
        if now is None or self.before is None or not self.before.samples:
            return None
        before = self.before.total(name, wanted) or 0.0
        return now - before if now >= before else now

    def rate(self, name: str, wanted: Callable[[Labels], bool] = lambda _: True) -> float | None:
        """Return a counter's growth a second."""
        growth = self.growth(name, wanted)
        if growth is None or self.before is None:
            return None
        return growth / max(self.now.at - self.before.at, 1e-9)

    def mean(self, name: str, **labels: str) -> float | None:
        """Return the mean of what a histogram saw."""
        count = self.growth(f"{name}_count", _having(labels))
        return (self.growth(f"{name}_sum", _having(labels)) or 0.0) / count if count else None

    @property
    def padding(self) -> float | None:
        """Return the share of padding in the tokens that were computed."""
        padded = self.growth("scoremux_padded_tokens_total")
        return 1 - (self.growth("scoremux_tokens_total") or 0.0) / padded if padded else None

    def request_s(self, quantile: str) -> float | None:
        """Return a quantile of Triton's request latencies of the last minute."""
        value = self.value("nv_inference_request_summary_us", quantile=quantile, **_OF_SCORER)
        return None if value is None else value / 1e6


def _having(wanted: dict[str, str]) -> Callable[[Labels], bool]:
    return lambda labels: all(labels.get(name) == value for name, value in wanted.items())
