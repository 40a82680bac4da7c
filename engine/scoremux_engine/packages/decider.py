"""`decision.json`, ready to decide about rows: their confidence, their condition, and where they go."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from scoremux_assess.decisions.conditions import language
from scoremux_assess.decisions.conditions.rules import Conditions, Finder, Found
from scoremux_assess.decisions.decision import Decision, calibrated
from scoremux_client.contract import MACHINE, NO_RANGE, Reason
from scoremux_client.errors import InputError
from scoremux_engine.errors import PackageError
from scoremux_engine.packages.task import Task


def finder_of(conditions: Conditions, task: Task) -> Finder:
    """Return what finds conditions in a task's responses: the same for the scorer and for calibration."""
    return Finder(conditions, [text for text in (task.question, task.reference) if text], [task.language])


@dataclass(frozen=True)
class Decider:
    """Decides about rows of one version. Every step is per row, so a row's bits do not depend on its neighbours."""

    decision: Decision
    finder: Finder

    @classmethod
    def parse(cls, data: bytes, path: Path, task: Task, width: int) -> Decider:
        """Read the file for a task.

        Args:
            data: What the file holds.
            path: Names the file in messages.
            task: Whose version it is.
            width: H of the backbone.

        Raises:
            PackageError: A key is wrong, or the rules need what is not installed.
        """
        try:
            decision = Decision.parse(data, str(path))
        except InputError as error:
            raise PackageError(str(error)) from error
        if decision.unusual is not None and len(decision.unusual.weights) != width:
            own = len(decision.unusual.weights)
            raise PackageError(f"{path}: unusual has {own} weights, the backbone's vectors have {width} numbers")
        finder = finder_of(decision.conditions, task)
        if finder.identifies:
            try:
                language.require()
            except InputError as error:
                raise PackageError(f"task {task.id}: {error}") from error
        return cls(decision, finder)

    @property
    def needs_pooled(self) -> bool:
        """Whether it asks for the vector that the head read."""
        return self.decision.unusual is not None

    def confidence(self, probabilities: Sequence[float], level: int) -> tuple[float, tuple[int, int]]:
        """Return the calibrated probability of a row's level, a float32, and the range of levels around it.

        NaN and −1, −1 without a calibration, or without probabilities.
        """
        temperature, own = self.decision.temperature, self.decision.level_range
        if temperature is None or not 0 <= level < len(probabilities) or math.isnan(probabilities[level]):
            return math.nan, NO_RANGE
        shares = calibrated(probabilities, temperature.value)
        return float(np.float32(shares[level])), NO_RANGE if own is None else own.around(level, shares)

    def route(self, sure: float, found: Found | None, truncated: bool, pooled: npt.NDArray[np.float32] | None) -> str:
        """Return where a scored row goes.

        Args:
            sure: Its confidence.
            found: Its condition.
            truncated: Whether the model did not see all of it.
            pooled: The vector that the head read, float32 [H], where the decision needs it.
        """
        own, threshold, unusual = self.decision, self.decision.threshold, self.decision.unusual
        if found is not None:
            return Reason.CONDITION.route
        if threshold is not None and threshold.least is None:
            return Reason(threshold.reason).route
        if own.truncated and truncated:
            return Reason.TRUNCATED.route
        if unusual is not None and pooled is not None and not unusual.distance(pooled) <= unusual.limit:
            return Reason.UNUSUAL.route
        if threshold is not None and threshold.least is not None and not sure >= threshold.least:
            return Reason.LOW_CONFIDENCE.route
        return MACHINE
