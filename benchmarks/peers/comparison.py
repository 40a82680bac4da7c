"""The same responses and adapters through every other way to serve them, and through ours.

    python -m benchmarks peers --data SAF
    python -m benchmarks peers --data SAF --only PEFT

Every peer runs in a process of its own and scores all rows once a round, in turn with ours. Peers that take gigabytes
are loaded one after the other, the others side by side, ours beside all: 16 GB of memory are enough. Peers whose
packages conflict with ours get a virtual environment under `--work`. `--only` leaves out other peers, never ours.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import data
from benchmarks.case import RATE, case, data_folder
from benchmarks.child import Child, ChildError, Floats
from benchmarks.peers import adapterhub, merged, peft_torch, scoremux, triton_merged
from benchmarks.peers.base import InstallError, Peer, load
from benchmarks.rows import Row
from benchmarks.timing import Timing, figures, times_as_fast

PEERS: tuple[Peer, ...] = (
    *scoremux.IN_PROCESS,
    *peft_torch.PEERS,
    *adapterhub.PEERS,
    *merged.PEERS,
    *triton_merged.PEERS,
    *scoremux.IN_TRITON,
)
ALONE_ROWS = 16


def waves(peers: Sequence[Peer]) -> list[list[Peer]]:
    """Return what is loaded together: all light peers, then each heavy one; the reference every time."""
    ours = [peer for peer in peers if peer.reference]
    light = [peer for peer in peers if not peer.reference and not peer.heavy]
    heavy = [[*ours, peer] for peer in peers if peer.heavy]
    return [[*ours, *light], *heavy] if light or not heavy else heavy


class SideBySide:
    """Peers that are loaded side by side. figures: by peer; one that could not be had says why under `refused`."""

    def __init__(self, rows: Sequence[data.Labelled], reference: Floats, work: Path) -> None:
        self._numbers, self._reference, self._work = list(range(len(rows))), reference, work
        self._rows = rows
        self._children: dict[Peer, Child] = {}
        self._seconds: dict[Peer, list[float]] = {}
        self.figures: dict[Peer, dict[str, Any]] = {}

    def measure(self, wave: Sequence[Peer], rounds: int, known: Iterable[Peer]) -> None:
        """Load a wave, time it round by round, then look at each peer that is not `known` alone."""
        with ExitStack() as held:
            for peer in wave:
                self.figures[peer] = {"default": peer.default}
                self._attempt(peer, lambda peer=peer: self._load(peer, held))
            for number in range(rounds):
                for peer in list(self._children):
                    if number < (peer.rounds or rounds):
                        self._attempt(peer, lambda peer=peer: self._round(peer))
            for peer in list(self._children):
                if peer not in known:
                    self._attempt(peer, lambda peer=peer: self._look(peer))
        self._summarise(len(self._numbers))

    def _attempt(self, peer: Peer, step: Any) -> None:
        try:
            step()
        except (InstallError, ChildError) as error:
            self.figures[peer]["refused"] = str(error)
            print(f"{peer.name}: {error}", file=sys.stderr)
            self._children.pop(peer, None)

    def _load(self, peer: Peer, held: ExitStack) -> None:
        child = held.enter_context(load(peer, self._work, self._rows))
        self._children[peer], self._seconds[peer] = child, []
        child.logits(self._numbers)  # a shape's first run makes its kernels

    def _round(self, peer: Peer) -> None:
        took_s, logits = self._children[peer].logits(self._numbers)
        self._seconds[peer].append(took_s)
        reference = self._reference
        if "in Triton" in peer.name:  # known but for a constant a row
            logits, reference = (x - x.mean(1, keepdims=True) for x in (logits, reference))
        worst = self.figures[peer].get("max_logit_difference", 0.0)
        self.figures[peer]["max_logit_difference"] = float(np.maximum(worst, np.abs(logits - reference).max()))

    def _look(self, peer: Peer) -> None:
        """Measure lone rows, memory, and how many rows get other bits alone than together."""
        child, numbers = self._children[peer], self._numbers[:ALONE_ROWS]
        child.singly(numbers)  # a shape's first run makes its kernels
        seconds, alone = child.singly(numbers)
        _, together = child.logits(numbers)
        changed = (alone != together).any(axis=1).sum()
        looked = {"lone_row_ms": float(np.median(seconds)) * 1e3, "bits_changed": int(changed)}
        self.figures[peer] |= {**looked, "rss_bytes": child.rss_bytes(), "setting": child.setting()}

    def _summarise(self, rows: int) -> None:
        timings = {peer: Timing(seconds) for peer, seconds in self._seconds.items() if seconds}
        ours = {peer.name.split()[-1]: timing for peer, timing in timings.items() if peer.reference}
        for peer, timing in timings.items():
            paired = {name: Timing(of.seconds[: len(timing.seconds)]) for name, of in ours.items()}
            ratios = {name: times_as_fast(of, timing) for name, of in paired.items()}
            self.figures[peer] |= {**figures(timing, rows), "ours_times_as_fast": ratios}
        self._children, self._seconds = {}, {}


def reference(rows: Sequence[data.Labelled], work: Path) -> Floats:
    """Return PEFT's logits of every row alone, float32 [B, 5]."""
    with Child("benchmarks.peers.peft_torch:PeftAlone", {"scratch": ""}, rows, work / "reference.log") as child:
        return child.logits(range(len(rows)))[1]


@case(
    columns=(
        f" = peer; setting; {RATE}; ours, float32, is × as fast = ours_times_as_fast.float32:.2f; "
        "bfloat16 = ours_times_as_fast.bfloat16:.2f; int8 = ours_times_as_fast.int8:.2f; "
        "a lone row, ms = lone_row_ms:.1f; RSS, MB = rss_bytes/1e6:,.0f; "
        "max abs Δlogit = max_logit_difference:.1e; rows of 16 with other bits alone = bits_changed"
    ),
    keys="data peer",
    options={"--only": {"nargs": "*", "default": [""], "help": "peers whose names contain one of these"}},
)
def peers(arguments: argparse.Namespace, work: Path) -> Iterator[Row]:
    """Responses to 27 tasks, mixed, through every other way to serve them that runs on a processor."""
    chosen = [peer for peer in PEERS if peer.reference or any(part in peer.name for part in arguments.only)]
    rows = data.for_examples(data.sample(data_folder(arguments.data), arguments.rows))
    run = SideBySide(rows, reference(rows, work), work)
    measured: dict[Peer, dict[str, Any]] = {}
    for wave in waves(chosen):
        run.measure(wave, arguments.rounds, measured)
        measured = {**run.figures, **measured}
    for peer in chosen:
        yield {"data": arguments.data, "rows": arguments.rows, "peer": peer.name, **measured[peer]}
