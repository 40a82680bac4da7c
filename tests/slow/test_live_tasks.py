"""Publishes, rollbacks and retires under load: no row fails or changes bits.

A real Triton scores a mixed stream from two clients while one writer changes the store. Afterwards every row is scored
again, alone and in this process, by the version that its answer names. A row may come back as UNKNOWN_TASK only while
its task was retired.
"""

import random
import shutil
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from saf import ADAPTERS
from scoremux_client import Response, Scored, ScoringClient, Status
from scoremux_engine import Engine
from scoremux_engine.errors import StoreError
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.store.store import Store
from serving import serving
from waiting import Result, Scaled
from watching import responses

TENSORS = "adapter_model.safetensors"
BATCH_ROWS, CLIENTS, VERSIONS = 32, 2, 4
Versions = dict[str, list[Path]]


@dataclass
class Timeline:
    """When each task was not live: (from, to) in seconds of the monotonic clock."""

    gaps: dict[str, list[list[float]]] = field(default_factory=dict)

    def retired(self, task: str, at: float) -> None:
        self.gaps.setdefault(task, []).append([at, float("inf")])

    def back(self, task: str, at: float) -> None:
        for gap in self.gaps.get(task, []):
            gap[1] = min(gap[1], at)

    def touches(self, task: str, begin: float, end: float) -> bool:
        return any(begin <= gap[1] and end >= gap[0] for gap in self.gaps.get(task, []))


@dataclass
class Seen:
    """All that the clients got: (sent, answered, row, outcome)."""

    answers: list[tuple[float, float, Response, Scored]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def send(self, url: str, seed: int, tasks: list[str], stop: threading.Event) -> None:
        """Score random rows until `stop` is set."""
        pool = responses(512, seed, tasks)
        draw = random.Random(seed)
        with ScoringClient(url) as client:
            while not stop.is_set():
                rows, begin = draw.choices(pool, k=BATCH_ROWS), time.monotonic()
                try:
                    scored = client.score(rows)
                except Exception as error:
                    self.errors.append(f"{type(error).__name__}: {error}")
                    continue
                self.answers.extend((begin, time.monotonic(), *pair) for pair in zip(rows, scored, strict=True))

    def failed(self, line: Timeline) -> int:
        """Return how many rows got no score that should have got one."""
        failed = len(self.errors) * BATCH_ROWS
        for begin, end, row, got in self.answers:
            retired = got.status is Status.UNKNOWN_TASK and line.touches(row.task, begin, end)
            failed += got.status is not Status.OK and not retired
        return failed

    def wrong(self, engine: Engine) -> int:
        """Return how many scored rows differ from what their version gives alone."""
        alone: dict[tuple[str, str, str], Scored] = {}
        wrong = 0
        for _, _, row, got in self.answers:
            if got.status is Status.OK:
                key = (str(row.text), row.task, got.version)
                if key not in alone:
                    alone[key] = engine.score([key[0]], [f"{row.task}@{got.version}"])[0]
                want = alone[key]
                wrong += (got.level, got.probabilities, got.version) != (want.level, want.probabilities, want.version)
        return wrong


def vary(original: Path, folder: Path, factor: float) -> Path:
    """Copy an adapter's folder to `folder` with every weight times `factor`; return it."""
    shutil.copytree(original, folder)
    tensors = load_file(folder / TENSORS)
    save_file({name: tensor * np.float32(factor) for name, tensor in tensors.items()}, folder / TENSORS)
    return folder


def change(store: Store, backbone: Backbone, versions: Versions, draw: random.Random, line: Timeline) -> None:
    task = draw.choice(sorted(versions))
    live = store.manifest().tasks
    kind = draw.choice(["publish", "publish", "rollback", "retire"]) if task in live else "publish"
    if kind == "retire":
        line.retired(task, time.monotonic())
        store.retire([task])
    elif kind == "rollback":
        try:
            store.rollback(task)
        except StoreError:
            return  # there is no version before
    else:
        store.add([draw.choice(versions[task])], backbone)
        # A batch that had begun before the change may still be without the task.
        line.back(task, time.monotonic() + 0.5)


@pytest.fixture
def repository(saf_repository: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saf_repository, tmp_path / "repository"))


def test_changes_under_load(
    repository: Path, saf_tasks: list[str], tmp_path: Path, scaled: Scaled, result: Result
) -> None:
    versions: Versions = {
        task: [vary(ADAPTERS / task, tmp_path / f"{task}-{n}", 1 + n / 64) for n in range(VERSIONS)]
        for task in saf_tasks
    }
    backbone, store = Backbone.open(repository / "backbone" / "1"), Store(repository / "store")
    draw, line, seen, stop, changes = random.Random(1), Timeline(), Seen(), threading.Event(), scaled(1000)
    with serving(repository, tmp_path) as server:
        url = server.endpoints.grpc_url
        threads = [threading.Thread(target=seen.send, args=(url, seed, saf_tasks, stop)) for seed in range(CLIENTS)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(changes):
                change(store, backbone, versions, draw, line)
                time.sleep(draw.random() / 20)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    failed, wrong = seen.failed(line), seen.wrong(Engine.open(repository))
    result(
        f"{changes:,} publishes, rollbacks and retires under load",
        f"{failed} of {len(seen.answers):,} rows failed, {wrong} with other bits",
    )
    assert (failed, wrong) == (0, 0)
