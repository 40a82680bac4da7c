"""Made-up programmes after an alarm: how often `scoremux calibrate` publishes a promise that is broken.

python -m pytest tests/slow/test_after_an_alarm.py -s
"""

from datetime import date, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from labelled import rows_of
from making import make_adapter
from scoremux_decide.policy import AgreementTarget, ScoringPolicy
from scoremux_engine import Engine
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.packages.package import adapter_digest
from scoremux_engine.packages.package_files import PackageFiles
from scoremux_engine.store.store import Store
from scoremux_evidence.promise.calibration import Calibration, calibrate_tasks, publish
from scoremux_evidence.promise.temperature import at_temperature
from scoremux_evidence.rows.table import Rows
from scoremux_files.rows.codes import Codes
from scoremux_files.rows.columns import encode
from serving import run_here
from waiting import Result, Scaled

Floats = npt.NDArray[np.float64]
LEVELS, PROMISED = 4, 0.15
BEFORE, AFTER = "2026-01-31T12:00:00+00:00", (date.today() + timedelta(days=1)).isoformat() + "T12:00:00+00:00"


def _confidences(world: str, rows: int, random: np.random.Generator) -> tuple[Floats, Floats]:
    """Return confidences, and how often the machine was right before the change; one row in nine was wrong."""
    if world == "confidences say nothing":
        return random.uniform(0.6, 0.99, rows), np.full(rows, 0.89)
    confidence = np.clip(random.beta(0.89 * 6, 0.11 * 6, rows), 0.3, 0.995)
    return confidence, confidence


def _levels(right: Floats, random: np.random.Generator) -> tuple[Floats, Floats]:
    """Return levels of the machine and of people, [B]: of a skewed task, so that a good one passes its criteria."""
    machine = random.choice(LEVELS, len(right), p=[0.2, 0.3, 0.3, 0.2])
    step = np.where(machine == 0, 1, np.where(machine == LEVELS - 1, -1, random.choice([-1, 1], len(right))))
    return machine.astype(float), (machine + np.where(random.random(len(right)) < right, 0, step)).astype(float)


def _probabilities(machine: Floats, confidence: Floats) -> Floats:
    rest = ((1 - confidence) / (LEVELS - 1))[:, None]
    return np.where(machine[:, None] == np.arange(LEVELS), confidence[:, None], rest)


class Programme:
    """Tasks that were calibrated on old labels; a change made the machine of each second one worse, and it is on hold.

    times: how much more often the machine is wrong since.
    """

    def __init__(self, repository: Path, folder: Path, tasks: int, times: float, world: str) -> None:
        backbone = Backbone.open(repository / "backbone" / "1")
        self.folder = repository / "store"
        self.store, self.engine = Store(self.folder), Engine.open(repository)
        self.names = [f"p-{n:02}" for n in range(tasks)]
        self.broken = self.names[::2]
        folders = [make_adapter(folder / name, backbone.spec, name, levels=LEVELS) for name in self.names]
        self.store.add(folders, backbone)
        live = self.store.manifest().tasks
        files = [PackageFiles(self.store.package_folder(live[name])) for name in self.names]
        self.adapters = [adapter_digest(of) for of in files]
        self.times, self.world = times, world
        self.policy = ScoringPolicy(target=AgreementTarget(exact=1 - PROMISED))

    def labels(self, old: int, new: int, random: np.random.Generator) -> Rows:
        """Return so many labelled rows of each task from before the change, and since."""
        each = old + new
        count = each * len(self.names)
        task = np.repeat(np.arange(len(self.names)), each)
        is_new = np.tile(np.arange(each) >= old, len(self.names))
        confidence, right = _confidences(self.world, count, random)
        machine, human = _levels(np.where(is_new & (task % 2 == 0), 1 - self.times * (1 - right), right), random)
        probabilities = np.empty(count, object)
        probabilities[:] = _probabilities(machine, confidence).tolist()
        number = [str(n) for n in range(count)]
        id_ = np.empty(count, object)
        id_[:] = number
        blank = rows_of({"id": "0", "text": None, "student": None})
        rows = blank.where(np.zeros(count, np.int64))
        return rows.plus(
            id=id_,
            task=Codes(tuple(self.names), task.astype(np.int32)),
            student=encode(pa.array(number)),
            level=human,
            probabilities=probabilities,
            adapter=Codes(tuple(self.adapters), task.astype(np.int32)),
            decided_at=Codes((BEFORE, AFTER), is_new.astype(np.int32)),
        )

    def begin(self, old: int, random: np.random.Generator) -> None:
        publish(self.engine, self.store, self.calibrate(self.labels(old, 0, random)))
        for name in self.broken:
            run_here("tasks", "hold", name, "--by", "A. Lopez", "--store", self.folder)

    def calibrate(self, rows: Rows, since: date | None = None) -> Calibration:
        return calibrate_tasks(self.engine, self.store, self.policy, rows, since=since)

    def outcome(self, calibration: Calibration, random: np.random.Generator) -> dict[str, tuple[bool, float]]:
        """Return of each task whether its promise is broken among responses to come, and the share that is kept."""
        confidence, right = _confidences(self.world, 100_000, random)
        machine = np.zeros(len(confidence))
        later = Rows.of(probabilities=_probabilities(machine, confidence))
        outcome = {}
        for name, decision in calibration.decisions.items():
            threshold, temperature = decision.threshold, decision.temperature
            assert threshold and temperature
            if threshold.least is None:
                outcome[name] = False, 0.0
                continue
            keeps = at_temperature(later, temperature.value)[:, 0] >= threshold.least
            wrong = (self.times if name in self.broken else 1.0) * (1 - right[keeps])
            outcome[name] = bool(keeps.any() and np.minimum(wrong, 1).mean() > PROMISED), float(keeps.mean())
        return outcome


@pytest.mark.parametrize("world", ["confidences are right", "confidences say nothing"])
@pytest.mark.parametrize("times", [1.5, 2.0])
@pytest.mark.parametrize(("tasks", "old", "new"), [(14, 300, 100), (14, 900, 300), (42, 300, 100), (42, 900, 300)])
def test_promises_after_a_hold(
    own_repository: Path, tmp_path: Path, tasks: int, old: int, new: int, times: float, world: str,
    scaled: Scaled, result: Result,
) -> None:  # fmt: skip
    random = np.random.default_rng(31)
    programme = Programme(own_repository, tmp_path / "adapters", tasks, times, world)
    programme.begin(old, random)
    figures = []
    for since in (None, date(2026, 1, 1)):
        outcomes = []
        for _ in range(scaled(420 // tasks if since is None else 84 // tasks)):
            calibration = programme.calibrate(programme.labels(old, new, random), since)
            outcomes.append(programme.outcome(calibration, random))
        of_broken = np.array([outcome[name] for outcome in outcomes for name in programme.broken])
        others = np.array([of for outcome in outcomes for name, of in outcome.items() if name not in programme.broken])
        figures.append((of_broken[:, 0].mean(), of_broken[:, 1].mean(), others[:, 0].mean(), others[:, 1].mean()))
    (broken, kept, broken_others, kept_others), (with_old, _, _, _) = figures
    result(
        f"after an alarm: {tasks} tasks, {old} old and {new} new labels, errors × {times}, {world}",
        f"promise broken in {broken:.3f} of the tasks on hold (with old labels {with_old:.3f}), which keep {kept:.2f} "
        f"of their rows; the others: {broken_others:.3f}, {kept_others:.2f}",
    )
    assert broken <= 0.10
