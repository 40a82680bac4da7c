"""The measurements behind the paper's table."""

from __future__ import annotations

import json
import random
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.child import Child
from benchmarks.peers.peer import PeerSpec
from benchmarks.saf import SafRow
from benchmarks.saf_quality import mean_kappa
from benchmarks.switching import cost_ms, in_turn
from scoremux_cli.agreement import agreement

BATCH = 64
BATCHES = 2


class PaperRun:
    """All settings, each in a process of its own, on the test split."""

    def __init__(self, rows: Sequence[SafRow], scratch: Path) -> None:
        self._rows, self._scratch = rows, scratch
        self._file = scratch / "test.jsonl"
        self._file.write_text("".join(json.dumps(asdict(row)) + "\n" for row in rows), encoding="utf-8")
        self._children: dict[str, Child] = {}
        self._figures: dict[str, dict[str, Any]] = {}
        self._seconds: dict[str, dict[str, list[Any]]] = {}

    def load(self, specs: Iterable[PeerSpec]) -> None:
        """Start every setting's process."""
        for spec in specs:
            child = Child(spec, self._scratch, self._file)
            self._children[spec.name] = child
            self._figures[spec.name] = {"load_s": child.load_s}
            self._seconds[spec.name] = {"switched": [], "stayed": [], "mixed": []}

    def quality(self) -> None:
        """Score all rows of every setting: QWK by task, mean and pooled; then memory, with every task used."""
        for name, child in self._children.items():
            out = self._scratch / "levels.npy"
            child.ask("logits", numbers=list(range(len(self._rows))), out=str(out))
            self._figures[name].update(self._agreement(np.load(out).argmax(axis=1).tolist()))
            self._figures[name].update(child.ask("memory"))

    def _agreement(self, levels: Sequence[int]) -> dict[str, Any]:
        by_task = {}
        for task in sorted({row.task for row in self._rows}):
            pairs = [(row.level, level) for row, level in zip(self._rows, levels, strict=True) if row.task == task]
            by_task[task] = agreement([truth for truth, _ in pairs], [level for _, level in pairs])
        pooled = agreement([row.level for row in self._rows], list(levels)).qwk
        return {"qwk": {t: a.qwk for t, a in by_task.items()}, "mean_qwk": mean_kappa(by_task), "pooled_qwk": pooled}

    def rounds(self, count: int, each: int) -> None:
        """Time single rows with the task changing every time, the same rows by task, and mixed batches of 64."""
        switched = in_turn(self._rows, each)
        places = sorted(range(len(switched)), key=lambda i: self._rows[switched[i]].task)
        mixed = random.Random(64).sample(range(len(self._rows)), BATCH * BATCHES)
        for number in range(count):
            for name, child in self._children.items():
                kept = self._seconds[name]
                if number == 0:  # shapes and caches
                    child.ask("singly", numbers=[switched[i] for i in places])
                kept["switched"].append(child.ask("singly", numbers=switched)["seconds"])
                by_task = child.ask("singly", numbers=[switched[i] for i in places])["seconds"]
                # A setting that has one model at a time loads it for the first row of each task: not a stay.
                kept["stayed"].append(self._stays(by_task, places, switched))
                kept["mixed"].append(
                    [
                        child.ask("logits", numbers=mixed[at : at + BATCH])["took_s"] / BATCH
                        for at in range(0, len(mixed), BATCH)
                    ]
                )

    def _stays(self, seconds: Sequence[float], places: Sequence[int], switched: Sequence[int]) -> list[float]:
        """Return the seconds at the places of `switched`, NaN for the first row of each task."""
        out, before = [float("nan")] * len(places), None
        for place, took in zip(places, seconds, strict=True):
            task = self._rows[switched[place]].task
            if task == before:
                out[place] = took
            before = task
        return out

    def figures(self) -> dict[str, dict[str, Any]]:
        """Return everything by setting. Latencies are ms per response: medians, the mixed ones of a batch's share."""
        for name, kept in self._seconds.items():
            switched, stayed = np.array(kept["switched"]), np.array(kept["stayed"])
            known = ~np.isnan(stayed).any(axis=0)
            medians = [float(np.median(row)) * 1e3 for row in switched]
            self._figures[name] |= {
                "switching_ms": statistics.median(medians),
                "switching_p99_ms": float(np.percentile(switched, 99)) * 1e3,
                "switching_spread": (max(medians) - min(medians)) / statistics.median(medians),
                "mixed_ms": float(np.median(kept["mixed"])) * 1e3,
                "switch": cost_ms(switched[:, known].tolist(), stayed[:, known].tolist()),
            }
        return self._figures

    def close(self) -> None:
        for child in self._children.values():
            child.close()
