"""What `scoremux calibrate` prints: a table of decisions, what they rest on, or both as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from scoremux_assess.decisions.decision import Decision, Threshold
from scoremux_engine.commands.calibration import Calibration
from scoremux_engine.commands.output import short, show_table

_COLUMNS = ("task", "rows", "temperature", "threshold", "to people", "promise", "chosen on", "levels", "version")
_LEFT_OUT_OF_JSON = ("format", "conditions", "unusual", "policy")


def tasks_as_json(calibration: Calibration, versions: Mapping[str, str | None]) -> list[dict[str, Any]]:
    """Return each task's decision without its rules. versions: the new digests by task."""
    tasks = []
    for name, decision in calibration.decisions.items():
        values = json.loads(decision.to_json())
        numbers = {key: value for key, value in values.items() if key not in _LEFT_OUT_OF_JSON}
        tasks.append({"task": name, "rows": calibration.rows[name], "version": versions.get(name), **numbers})
    return tasks


def show_decisions(calibration: Calibration, versions: Mapping[str, str | None], dry_run: bool) -> None:
    """Print a row for each task. versions: the new digests by task."""
    rows = [
        [name, str(calibration.rows[name]), *_cells(decision), short(versions.get(name))]
        for name, decision in calibration.decisions.items()
    ]
    show_table(_COLUMNS, rows, title=f"{len(rows)} tasks {'would be' if dry_run else 'are'} calibrated")


def show_rows(calibration: Calibration, predictions: Path | None, dry_run: bool) -> None:
    """Print which rows the decisions rest on, and which they do not."""
    say = Console(markup=False, highlight=False, soft_wrap=True).print
    if calibration.out_of_fold:
        condition = "true only if the live versions come from the same training"
        say(f"{calibration.out_of_fold:,} rows have out-of-fold predictions, from {predictions}: {condition}")
    if calibration.scored:
        scored = f"{calibration.scored:,} rows were scored by the live versions"
        say(f"{scored}: true only if no adapter was fitted to them")
    for reason, count in sorted(calibration.left_out.items()):
        say(f"{count:,} rows are left out: {reason}")
    if without := calibration.without_confidence:
        names = ", ".join(without)
        say(f"{len(without)} tasks have no confidence; a target sends all their responses to people: {names}")
    if dry_run:
        say("nothing was published (--dry-run)")


def _cells(decision: Decision) -> list[str]:
    temperature, levels = decision.temperature, decision.level_range
    return [
        f"{temperature.value:.2f}" if temperature else "–",
        *(["–"] * 4 if decision.threshold is None else _threshold(decision.threshold)),
        f"{levels.width:.1f} at {levels.confidence:.0%}" if levels else "–",
    ]


def _threshold(threshold: Threshold) -> list[str]:
    promises = [f"exact ≥ {threshold.exact:.3g}"] if threshold.exact is not None else []
    promises += [f"critical ≤ {threshold.critical:.3g}"] if threshold.critical is not None else []
    promise = f"{', '.join(promises)} at {threshold.confidence:.0%}" if promises else "none"
    share = f"{threshold.share:.0%}"
    if threshold.least is None:
        return [threshold.reason, share, "all to people", threshold.source]
    return [f"{threshold.least:.3f}", share, promise, threshold.source]
