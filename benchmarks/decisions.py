"""What decisions cost: processor time of the engine with and without confidence, ranges, conditions and routes.

    python -m benchmarks decisions --data SAF --rounds 30

Both stores run through the same runner in one process, in turn, on the same rows. The example policy decides, with its
rule `unusual`, and a threshold that each task can keep.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from argparse import Namespace
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks import data
from benchmarks.case import PROFILES, case, data_folder
from benchmarks.rows import ROOT, Row
from benchmarks.stores import make_store
from benchmarks.timing import interleave, times_as_fast

CALIBRATED_ON = 2000
"""Labelled rows, of all tasks together."""


@case(
    columns=(
        "data; profile; rows; µs a row = us_a_row:,.0f; without decisions = us_a_plain_row:,.0f; "
        "spread = spread:.2f; throughput lost = cost:.2%"
    ),
    keys="data profile",
    options=PROFILES,
    defaults={"rounds": 30},
)
def decisions(arguments: Namespace, work: Path) -> Iterable[Row]:
    """What decisions cost: processor time of the engine in process, with them and without."""
    from scoremux_engine.engine import Engine
    from scoremux_engine.model.backbone import Backbone
    from scoremux_engine.store.store import Store
    from scoremux_server.profile import Profile

    folder, repository = data_folder(arguments.data), make_store(work, arguments.data)
    rows = data.sample(folder, arguments.rows)
    texts, tasks = [row.text for row in rows], [row.task for row in rows]
    backbone = Backbone.open(repository / "backbone" / "1")
    stores = {"plain": repository / "store", "decided": Path(tempfile.mkdtemp(dir=work)) / "store"}
    shutil.copytree(stores["plain"], stores["decided"])
    for profile in arguments.profile:
        runner = Profile.read(profile).choice.make(backbone)
        engines = {name: Engine(backbone, Store(store), runner) for name, store in stores.items()}
        calibrate_all(engines["decided"], Store(stores["decided"]), data.sample(folder, CALIBRATED_ON, seed=1))
        works = {name: lambda engine=engine: engine.score_columns(texts, tasks) for name, engine in engines.items()}
        timings = interleave(works, arguments.rounds, clock=time.process_time)
        own, plain = (timings[name].median_s / arguments.rows * 1e6 for name in ("decided", "plain"))
        cost = 1 - times_as_fast(timings["decided"], timings["plain"])
        setting = {"data": arguments.data, "rows": arguments.rows, "profile": profile, "rounds": arguments.rounds}
        yield {**setting, "us_a_row": own, "us_a_plain_row": plain, "spread": timings["plain"].spread, "cost": cost}


def calibrate_all(engine, store, labelled: Sequence[data.Labelled]) -> None:  # type: ignore[no-untyped-def]
    """Publish versions with decisions of all tasks that have labelled rows."""
    from scoremux_decide.policy import AgreementTarget, read_policy
    from scoremux_evidence.promise.calibration import calibrate_tasks, publish
    from scoremux_evidence.rows.label_columns import LABEL_COLUMNS
    from scoremux_evidence.rows.predicted import read_labelled

    target = AgreementTarget(human_share=0.2)
    policy = read_policy(ROOT / "examples" / "policy.toml").model_copy(update={"target": target})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "labelled.jsonl"
        lines = ({"id": row.id, "task": row.task, "text": row.text, "level": row.level} for row in labelled)
        path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
        rows = read_labelled([path], None, LABEL_COLUMNS, {})
    publish(engine, store, calibrate_tasks(engine, store, policy, rows))
