"""Through Triton on all SAF test responses: levels and logits against PEFT, and bits across mixes and restarts.

python -m benchmarks.saf_parity --data ../shared/data/saf
"""

from __future__ import annotations

import argparse
import random
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from benchmarks.provenance import record
from benchmarks.saf import SafRow, peft_logits, prepare, read_rows
from scoremux_client import Response, Scored, ScoringClient
from scoremux_engine import Engine
from scoremux_server.endpoints import Endpoints
from scoremux_server.server import Server

MIXES = 200
COMMAND = "python -m benchmarks.saf_parity --data SAF"


def score_shuffled(client: ScoringClient, rows: list[SafRow], shuffle: random.Random) -> list[Scored]:
    """Score all rows in one shuffled order; return the outcomes in the rows' own order."""
    order = shuffle.sample(range(len(rows)), len(rows))
    outcomes = client.score([Response(rows[i].task, rows[i].text) for i in order])
    return [scored for _, scored in sorted(zip(order, outcomes, strict=True), key=lambda pair: pair[0])]


def count_changed(client: ScoringClient, rows: list[SafRow], expected: list[Scored], shuffle: random.Random) -> int:
    """Score alone, in reverse, and in random mixes; return in how many outcomes some bit differs."""
    batches = [[i] for i in range(len(rows))] + [list(range(len(rows)))[::-1]]
    batches += [[shuffle.randrange(len(rows)) for _ in range(shuffle.randint(1, 256))] for _ in range(MIXES)]
    changed = 0
    for batch in batches:
        outcomes = client.score([Response(rows[i].task, rows[i].text) for i in batch])
        changed += sum(o.probabilities != expected[i].probabilities for o, i in zip(outcomes, batch, strict=True))
    return changed


def centred(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return logits less their mean: what softmax leaves of them, so log-probabilities compare with logits."""
    return np.asarray(values - values.mean(axis=1, keepdims=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the SAF folder")
    rows = read_rows(parser.parse_args().data)
    oracle = np.array(peft_logits(rows))
    shuffle = random.Random(680)
    with tempfile.TemporaryDirectory() as scratch:
        repository = prepare(Path(scratch))
        with Server(repository, Endpoints.choose()) as server, ScoringClient(server.endpoints.grpc_url) as client:
            served = score_shuffled(client, rows, shuffle)
            changed = count_changed(client, rows, served, shuffle)
        with Server(repository, Endpoints.choose()) as server, ScoringClient(server.endpoints.grpc_url) as client:
            again = score_shuffled(client, rows, shuffle)
        engine = Engine.open(repository)
        in_process = engine.logits([r.text for r in rows], [r.task for r in rows])
    probabilities = np.array([s.probabilities for s in served], dtype=np.float64)
    figures = {
        "rows": len(rows),
        "levels_equal": int(sum(s.level == o for s, o in zip(served, oracle.argmax(1), strict=True))),
        "max_abs_logit_difference_served": float(np.abs(centred(np.log(probabilities)) - centred(oracle)).max()),
        "max_abs_logit_difference_engine": float(np.abs(in_process - oracle).max()),
        "outcomes_changed_by_mix": changed,
        "mixes": MIXES,
        "outcomes_changed_by_restart": sum(
            a.probabilities != b.probabilities for a, b in zip(served, again, strict=True)
        ),
    }
    record("saf_parity", COMMAND, figures)
    table = Table("SAF test split through Triton, against PEFT", "")
    for name, value in figures.items():
        table.add_row(name, f"{value:.2e}" if isinstance(value, float) else str(value))
    Console().print(table)


if __name__ == "__main__":
    main()
