"""Plots as SVG: small, with titles and descriptions, in the colours of the page's style sheet.

They are drawn here rather than by matplotlib, which with its dependencies would be a quarter of the installation, and
takes a second for a dozen plots: a report may have a thousand.
"""

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup, escape

from scoremux_evidence.figures.reliability import COVERAGES, Reliability
from scoremux_evidence.rows.table import Floats

WIDTH, LEFT, RIGHT = 340, 44, 12
"""Of a plot and its margins, in pixels: a phone's width, where letters keep their size."""


Plot = dict[str, str]
"""A plot's title, and the plot as SVG."""


def reliability_plot(reliability: Reliability, cell: int, title: str) -> Plot:
    """Draw the share of right levels against the stated confidence, in tenths."""
    some = reliability.rows[cell] > 0
    columns = (reliability.stated, reliability.right, reliability.rows)
    stated, right, rows = (column[cell][some] for column in columns)
    frame = _Frame(230)
    body = [frame.grid("stated confidence", "share of right levels")]
    body += [frame.line([(0, 0), (1, 1)], "limit"), frame.line(list(zip(stated, right, strict=True)), "machine")]
    body += [frame.dot(p, q, 3 + 8 * np.sqrt(n / rows.sum())) for p, q, n in zip(stated, right, rows, strict=True)]
    bins = zip(stated, right, rows, strict=True)
    spoken = (f"stated {p:.2f}, right {q:.2f}, {int(n):,} rows" for p, q, n in bins)
    return _svg(frame, body, title, "; ".join(spoken))


def risk_plot(reliability: Reliability, cell: int, title: str, policy: tuple[float, float]) -> Plot:
    """Draw the share of wrong levels among the most confident rows, against how many rows those are.

    policy: the share of rows that it leaves to the machine, and the share of wrong levels among them.
    """
    shares = (reliability.kept, reliability.kept_high, reliability.kept_low)
    wrong, least, most = (1 - share[cell] for share in shares)
    frame = _Frame(200, max(0.05, float(most.max())))
    body = [frame.grid("share of rows scored by the machine", "share of wrong levels")]
    body.append(frame.band(COVERAGES, least, most))
    body.append(frame.line(list(zip(COVERAGES, wrong, strict=True)), "machine"))
    body += [frame.dot(share, risk, 3) for share, risk in zip(COVERAGES, wrong, strict=True)]
    columns = (column[1::2] for column in (COVERAGES, wrong, least, most))
    points = zip(*columns, strict=True)
    spoken = [f"{c:.0%} of rows: {w:.1%} wrong, from {a:.1%} to {b:.1%}" for c, w, a, b in points]
    if np.isfinite(policy).all():
        body += [frame.line([(policy[0], 0), (policy[0], policy[1])], "limit"), frame.dot(*policy, 7)]
        spoken.append(f"the policy: {policy[0]:.0%} of rows, {policy[1]:.1%} wrong")
    return _svg(frame, body, title, "; ".join(spoken))


def _svg(frame: "_Frame", body: Sequence[str], title: str, description: str) -> Plot:
    box = f'viewBox="0 0 {WIDTH} {frame.bottom + 38}"'
    opened = f'<svg {box} role="img" aria-label="{escape(title)}: {escape(description)}">'
    return {"title": title, "svg": Markup(f"{opened}{''.join(body)}</svg>")}


class _Frame:
    """The axes of a plot of shares, in pixels: from 0 to 1, and up to a round number of `most` or more."""

    def __init__(self, height: int, most: float = 1.0) -> None:
        step = _step(most)
        self._height, self._most = height, float(np.ceil(most / step - 1e-9) * step)
        self.bottom = height + 26

    def x(self, value: float) -> float:
        """Return where a value is from the left."""
        return LEFT + value * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        """Return where a value is from the top."""
        return self.bottom - value / self._most * self._height

    def dot(self, x: float, y: float, radius: float) -> str:
        """Return a point of the machine's."""
        return f'<circle cx="{self.x(x):.1f}" cy="{self.y(y):.1f}" r="{radius:.1f}" class="bar machine"/>'

    def line(self, points: Sequence[tuple[float, float]], style: str) -> str:
        """Return a line through points."""
        places = " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in points)
        return f'<polyline points="{places}" class="{style}"/>'

    def band(self, x: Floats, low: Floats, high: Floats) -> str:
        """Return the area between two lines."""
        ends = [*zip(x, high, strict=True), *zip(x[::-1], low[::-1], strict=True)]
        places = " ".join(f"{self.x(a):.1f},{self.y(b):.1f}" for a, b in ends)
        return f'<polygon points="{places}" class="band"/>'

    def grid(self, x_label: str, y_label: str) -> str:
        """Return lines, numbers and labels of the axes."""
        parts = []
        for value in _ticks(1.0):
            parts.append(self.line([(value, 0), (value, self._most)], "rule"))
            parts.append(f'<text x="{self.x(value):.1f}" y="{self.bottom + 15}" class="mid">{value:.4g}</text>')
        for value in _ticks(self._most):
            parts.append(self.line([(0, value), (1, value)], "rule"))
            parts.append(f'<text x="{LEFT - 6}" y="{self.y(value) + 4:.1f}" class="end">{value:.4g}</text>')
        parts.append(f'<text x="{self.x(0.5):.1f}" y="{self.bottom + 32}" class="mid">{escape(x_label)}</text>')
        parts.append(f'<text x="4" y="12">{escape(y_label)}</text>')
        return "".join(parts)


def _ticks(most: float) -> list[float]:
    """Return the round numbers of an axis from 0 that ends at `most`."""
    step = _step(most)
    return [n * step for n in range(round(np.floor(most / step + 1e-6)) + 1)]


def _step(most: float) -> float:
    rough = most / 5
    power = 10.0 ** np.floor(np.log10(rough))
    return float(next(power * n for n in (1, 2, 5, 10) if power * n >= rough * 0.999))
