"""All SAF test responses through Triton: PEFT's levels, and the same bits in random mixes and after a restart."""

import random
from pathlib import Path

import numpy as np
import numpy.typing as npt

from saf import SafRow, needs_data, peft_logits, read_rows
from scoremux_client import Response, Scored, ScoringClient
from serving import serving
from waiting import Result, Scaled

pytestmark = needs_data


def test_triton_gives_pefts_levels_and_the_same_bits_in_any_mix_and_after_a_restart(
    saf_repository: Path, tmp_path: Path, scaled: Scaled, result: Result
) -> None:
    rows, draw, mixes = read_rows(), random.Random(680), scaled(200)
    oracle = np.array(peft_logits(rows))
    with serving(saf_repository, tmp_path) as server, ScoringClient(server.endpoints.grpc_url) as client:
        served = score_shuffled(client, rows, draw)
        changed = count_changed_outcomes(client, rows, served, draw, mixes)
    with serving(saf_repository, tmp_path) as server, ScoringClient(server.endpoints.grpc_url) as client:
        again = score_shuffled(client, rows, draw)
    restarted = sum(a.probabilities != b.probabilities for a, b in zip(served, again, strict=True))
    probabilities = np.array([outcome.probabilities for outcome in served], dtype=np.float64)
    difference = float(np.abs(centred(np.log(probabilities)) - centred(oracle)).max())
    equal = sum(outcome.level == level for outcome, level in zip(served, oracle.argmax(1), strict=True))
    result(
        f"levels equal to PEFT's, {len(rows)} SAF test responses in shuffled mixed batches through Triton",
        f"{equal}/{len(rows)}, max abs logit difference {difference:.1e}",
    )
    result(f"outcomes with other bits: alone, reversed, in {mixes} mixes, after a restart", str(changed + restarted))
    assert (equal, changed, restarted) == (len(rows), 0, 0)
    assert difference <= 1e-4


def score_shuffled(client: ScoringClient, rows: list[SafRow], draw: random.Random) -> list[Scored]:
    """Score all rows in one shuffled order; return the outcomes in the rows' own order."""
    order = draw.sample(range(len(rows)), len(rows))
    outcomes = client.score([Response(rows[i].task, rows[i].text) for i in order])
    return [scored for _, scored in sorted(zip(order, outcomes, strict=True), key=lambda pair: pair[0])]


def count_changed_outcomes(
    client: ScoringClient, rows: list[SafRow], expected: list[Scored], draw: random.Random, mixes: int
) -> int:
    """Score alone, in reverse, and in random mixes; return in how many outcomes some bit differs."""
    batches = [[i] for i in range(len(rows))] + [list(range(len(rows)))[::-1]]
    batches += [[draw.randrange(len(rows)) for _ in range(draw.randint(1, 256))] for _ in range(mixes)]
    changed = 0
    for batch in batches:
        outcomes = client.score([Response(rows[i].task, rows[i].text) for i in batch])
        changed += sum(o.probabilities != expected[i].probabilities for o, i in zip(outcomes, batch, strict=True))
    return changed


def centred(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return logits less their mean: what softmax leaves of them, so log-probabilities compare with logits."""
    return np.asarray(values - values.mean(axis=1, keepdims=True))
