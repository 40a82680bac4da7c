"""Templates that change under load: no row is scored behind the prefix of another version."""

from __future__ import annotations

import json
import random
import shutil
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from making import WORDS
from proofs import Result, Scaled
from scoremux_engine import Engine
from scoremux_engine.errors import StoreError
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.store.store import Store

FORGETFUL_BYTES = 400_000
"""Memory for some of the adapters and prefixes: the others are loaded and computed again and again."""


def test_no_row_is_scored_behind_the_prefix_of_another_version(
    family_repository: Callable[[str], Path], tmp_path: Path, scaled: Scaled, result: Result
) -> None:
    repository, changes, draw = tmp_path / "repository", scaled(1000), random.Random(4)
    shutil.copytree(family_repository("gemma3"), repository)
    store, backbone = Store(repository / "store"), Backbone.open(repository / "backbone" / "1")
    folders = [vary(repository / "adapters" / task, number) for task in ("t-6", "t-7") for number in range(3)]
    engine, stop = Engine.open(repository, bank_bytes=FORGETFUL_BYTES), threading.Event()
    texts = [" ".join(draw.choices(WORDS, k=draw.randint(0, 40))) for _ in range(32)]
    seen: Counter[tuple[str, str, str, bytes]] = Counter()

    def load() -> None:
        picks = random.Random(5)
        while not stop.is_set():
            batch, tasks = picks.choices(texts, k=8), picks.choices(("t-6", "t-7"), k=8)
            out = engine.score_columns(batch, tasks)
            versions = [version.decode() for version in out["VERSION"][:, 0]]
            bits = [row.tobytes() for row in out["PROBABILITIES"]]
            seen.update(zip(batch, tasks, versions, bits, strict=True))

    scoring = threading.Thread(target=load)
    scoring.start()
    try:
        for _ in range(changes):
            if draw.random() < 0.3:
                with suppress(StoreError):  # no version before
                    store.rollback(draw.choice(("t-6", "t-7")))
            else:
                store.add([draw.choice(folders)], backbone)
    finally:
        stop.set()
        scoring.join()
    fresh = Engine.open(repository)
    wrong = sum(
        count
        for (text, task, version, bits), count in seen.items()
        if fresh.score_columns([text], [f"{task}@{version}"])["PROBABILITIES"][0].tobytes() != bits
    )
    versions = len({version for _, _, version, _ in seen})
    figure = (
        f"{wrong} of {seen.total():,} rows have other bits than their version gives them; {versions} versions scored"
    )
    result(f"{changes:,} publishes and rollbacks of templates under load, prefixes in a bank that forgets", figure)
    assert wrong == 0 and versions > 2


def vary(adapter: Path, number: int) -> Path:
    """Copy an adapter, with a question of its own; return the folder."""
    folder = adapter.with_name(f"{adapter.name}-{number}")
    shutil.copytree(adapter, folder)
    task = json.loads((folder / "task.json").read_text(encoding="utf-8"))
    task["question"] = " ".join(random.Random(number).sample(WORDS, k=20 + number))
    (folder / "task.json").write_text(json.dumps(task), encoding="utf-8")
    return folder
