"""The measurements of one run, peer after peer and round after round."""

from __future__ import annotations

import json
import statistics
from collections.abc import Container, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.child import Child, PeerError
from benchmarks.peers.peer import Floats, PeerSpec
from benchmarks.peers.traffic import poisson
from benchmarks.peers.venv import InstallError
from benchmarks.saf import SafRow

WARM_ROWS = {True: 64, False: 256}
"""Rows scored before anything is timed, by whether a peer's rounds are few because it is slow."""
ALONE_ROWS = 16


@dataclass
class Measured:
    """What is known of one peer. `seconds`: of every round; `refused`: why there is nothing else."""

    spec: PeerSpec
    seconds: list[float] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    refused: str = ""


def log_softmax(logits: Floats) -> Floats:
    """float32 [B, 5] → [B, 5]. Two sets of logits that differ by a constant a row have the same."""
    shifted = logits - logits.max(1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(1, keepdims=True)))


def worst(logits: Floats, reference: Floats, up_to_a_constant: bool = False) -> float:
    """Return max |Δlogit|, NaN where a peer left a logit out."""
    if up_to_a_constant:
        logits, reference = log_softmax(logits), log_softmax(reference)
    return float(np.abs(logits - reference).max())


def latency(answer: dict[str, Any], rows: int) -> dict[str, Any]:
    """Return p50 and p99 in ms, or None for both where the peer fell behind the load."""
    if answer["served"] < rows:
        return {"p50_ms": None, "p99_ms": None, "served": answer["served"] / rows}
    p50, p99 = np.percentile(answer["latencies_s"], [50, 99]) * 1e3
    return {"p50_ms": float(p50), "p99_ms": float(p99), "served": 1.0}


class Run:
    """Peers that are loaded side by side."""

    def __init__(self, rows: Sequence[SafRow], reference: Floats, scratch: Path) -> None:
        self._rows, self._reference, self._scratch = rows, reference, scratch
        self._numbers = list(range(len(rows)))
        self._file = scratch / "rows.jsonl"
        self._file.write_text("".join(json.dumps(asdict(row)) + "\n" for row in rows), encoding="utf-8")
        self.measured: list[Measured] = []
        self._children: dict[str, Child] = {}

    def load(self, specs: Iterable[PeerSpec]) -> None:
        """Start every peer and warm it up; what cannot be had is recorded as that."""
        for spec in specs:
            found = Measured(spec)
            self.measured.append(found)
            try:
                child = Child(spec, self._scratch, self._file)
                self._children[spec.name] = child
                child.ask("logits", numbers=self._numbers[: WARM_ROWS[spec.rounds > 0]])
                found.figures["load_s"] = child.load_s
            except (InstallError, PeerError) as error:
                self._drop(found, error)

    def rounds(self, count: int) -> None:
        """Let every peer score all rows, in turn, `count` times or as often as its spec allows."""
        for number in range(count):
            for found in self._living():
                if found.spec.rounds and number >= found.spec.rounds:
                    continue
                try:
                    out = self._scratch / "logits.npy"
                    answer = self._child(found).ask("logits", numbers=self._numbers, out=str(out))
                except PeerError as error:
                    self._drop(found, error)
                    continue
                found.seconds.append(answer["took_s"])
                constant = found.spec.target.endswith("Triton")
                found.figures["max_logit_difference"] = worst(np.load(out), self._reference, constant)

    def probe(self, rows_per_s: float, seconds: float, known: Container[str] = ()) -> None:
        """Measure latency at a fixed load, memory, and whether a row's bits depend on its neighbours.

        known: peers of which that is known already.
        """
        count = int(rows_per_s * seconds)
        arrivals = poisson(count, rows_per_s)
        numbers = [i % len(self._numbers) for i in range(count)]
        for found in self._living():
            if found.spec.name in known:
                continue
            child = self._child(found)
            try:
                answer = child.ask("traffic", numbers=numbers, arrivals_s=arrivals, give_up_s=2 * seconds)
                found.figures.update(latency(answer, count))
                found.figures.update(child.ask("memory"))
                found.figures.update(bits_changed=self._bits_changed(child), rows_alone=ALONE_ROWS)
            except PeerError as error:
                self._drop(found, error)

    def _bits_changed(self, child: Child) -> int:
        """Return how many of 16 rows get other logits, bit for bit, alone than together."""
        numbers, one, all_ = self._numbers[:ALONE_ROWS], self._scratch / "alone.npy", self._scratch / "together.npy"
        child.ask("singly", numbers=numbers, out=str(one))
        child.ask("logits", numbers=numbers, out=str(all_))
        return int((np.load(one) != np.load(all_)).any(axis=1).sum())

    def _living(self) -> list[Measured]:
        return [found for found in self.measured if not found.refused]

    def _child(self, found: Measured) -> Child:
        return self._children[found.spec.name]

    def _drop(self, found: Measured, error: Exception) -> None:
        found.refused = str(error)
        if child := self._children.pop(found.spec.name, None):
            child.close()

    def close(self) -> None:
        for child in self._children.values():
            child.close()

    def rows(self) -> dict[str, dict[str, Any]]:
        """Return the figures by peer: rows/s is the median of the rounds, `spread` (slowest − fastest) / median."""
        base = {found.spec.name: found.seconds for found in self.measured if found.spec.reference}
        made = {}
        for found in self.measured:
            spec = found.spec
            row: dict[str, Any] = {"default": spec.default, "ours": spec.ours, "cannot": spec.cannot}
            if found.seconds:
                median = statistics.median(found.seconds)
                row["rows_per_s"] = len(self._rows) / median
                row["spread"] = (max(found.seconds) - min(found.seconds)) / median
                row["rounds"] = len(found.seconds)
                # Rounds are paired: what the machine did meanwhile hit both.
                row["ours_times_as_fast"] = {
                    name: statistics.median(a / b for a, b in zip(found.seconds, seconds, strict=False))
                    for name, seconds in base.items()
                    if seconds
                }
            made[spec.name] = {**row, **found.figures, **({"refused": found.refused} if found.refused else {})}
        return made
