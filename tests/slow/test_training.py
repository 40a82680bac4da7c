"""`scoremux train` killed at random moments, and an adapter alone against in company on real data."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

import saf
from interrupted_training import adapters, prepare, run_in_child, run_with_kills
from proofs import Result, Scaled
from scoremux_assess.agreement.statistics import qwk
from scoremux_train.commands import train

SCIENTSBANK = saf.DATA.with_name("scientsbank")
KILLS = 100


def test_a_hundred_kills(tmp_path: Path, scaled: Scaled, result: Result) -> None:
    folder, wanted, hits, runs = prepare(tmp_path), scaled(KILLS), 0, 0
    began_s = time.monotonic()
    run_in_child(folder, tmp_path / "whole")
    whole_s = time.monotonic() - began_s
    whole = adapters(tmp_path / "whole")
    while hits < wanted:
        out = tmp_path / f"killed-{runs}"
        hits += run_with_kills(folder, out, kills=min(10, wanted - hits), seed=runs, whole_s=whole_s)
        assert adapters(out) == whole
        runs += 1
    result(f"kill -9 of `scoremux train`: {KILLS} kills", "adapters as those of an uninterrupted run, byte for byte")


@saf.needs_minilm
@saf.needs_data
def test_an_adapter_alone_and_in_company(tmp_path: Path, scaled: Scaled, result: Result) -> None:
    """Out-of-fold QWK of SciEntsBank tasks, each trained alone, against all 27 trained together."""
    rows = [json.loads(line) for line in (SCIENTSBANK / "train.jsonl").read_text(encoding="utf-8").splitlines()]
    tasks = sorted({row["task_id"] for row in rows})
    (tmp_path / "train.toml").write_text("folds = 2\n")

    def predicted(name: str, chosen: list[str]) -> dict[str, tuple[list[int], list[int]]]:
        data = tmp_path / f"{name}.jsonl"
        lines = [{"id": r["response_id"], "task": r["task_id"], "text": r["text"], "level": r["level"]} for r in rows]
        data.write_text("".join(json.dumps(line) + "\n" for line in lines if line["task"] in chosen))
        train([data], str(saf.minilm()), tmp_path / name, config=tmp_path / "train.toml")
        found: dict[str, tuple[list[int], list[int]]] = {}
        for row in pq.read_table(tmp_path / name / "predictions.parquet").to_pylist():
            human, machine = found.setdefault(row["task"], ([], []))
            human.append(row["level"])
            machine.append(int(np.argmax(row["probabilities"])))
        return found

    together = predicted("together", tasks)
    alone = tasks[: scaled(len(tasks))]
    apart = [abs(qwk(*together[task]) - qwk(*predicted(task, [task])[task])) for task in alone]
    mean = float(np.nanmean(apart))
    result(
        "QWK of an adapter trained alone and in company of 26",
        f"differs by {mean:.4f} on average, {max(apart):.4f} at most",
    )
    assert mean <= 0.005
