"""The output of `scoremux calibrate`: a table of decisions with notes, or both as JSON."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from scoremux_decide.decision import OWN, POOLED, Threshold
from scoremux_engine.commands.printing import short, show_result
from scoremux_engine.packages.package_files import TRAINED_JSON
from scoremux_evidence.promise.calibration import Calibration
from scoremux_evidence.promise.eligible import Eligible, reservations
from scoremux_evidence.rows.rules import RELABELLED, SAME_TEXT
from scoremux_files.errors import first_of

_COLUMNS = ("task", "rows", "verdict", "threshold", "to people", "promise", "version")
_DRY = (
    "nothing was published (--dry-run), and this look at the promise is not recorded: publish what these rows say, "
    "whether or not it pleases; to wait for better rows breaks the promise's confidence"
)
_LEFT_OUT_OF_JSON = ("format", "conditions", "unusual", "policy")


def show(
    calibration: Calibration,
    versions: Mapping[str, str | None],
    predictions: Path | None = None,
    *,
    dry_run: bool = False,
    as_json: bool = False,
) -> None:
    """Print the decision of each task, and notes for users. versions: the new digests by task."""
    notes = [
        *_rows(calibration.rows, predictions),
        *_exceptions(calibration),
        *_promises(calibration),
        *_left_out(calibration),
        *([_DRY] if dry_run else []),
    ]
    values = values_of(calibration, versions, dry_run)
    rows = []
    for name, decision in calibration.decisions.items():
        verdict, _ = calibration.verdicts.get(name, ("–", []))
        count = str(calibration.rows.tasks[name].count)
        rows.append([name, count, str(verdict), *_threshold(decision.threshold), short(versions.get(name))])
    title = f"{len(rows)} tasks {'would be' if dry_run else 'are'} calibrated"
    show_result(as_json, values, _COLUMNS, rows, title, notes=notes)


def values_of(calibration: Calibration, versions: Mapping[str, str | None], dry_run: bool) -> dict[str, Any]:
    """Return the printed JSON: each task's decision without its rules, and notes for users."""
    tasks = []
    for name, decision in calibration.decisions.items():
        of_task = calibration.rows.tasks[name]
        verdict, fails = calibration.verdicts.get(name, (None, []))
        values = json.loads(decision.to_json()).items()
        tasks.append(
            {
                "task": name,
                "rows": of_task.count,
                "version": versions.get(name),
                **{key: value for key, value in values if key not in _LEFT_OUT_OF_JSON},
                "verdict": None if verdict is None else str(verdict),
                "fails": fails,
                "origins": of_task.origins,
            }
        )
    reasons = {name: reason.name.lower() for name, reason in calibration.reasons.items()}
    head = {"policy": calibration.rows.policy.digest, "dry_run": dry_run, "tasks": tasks, "reasons": reasons}
    return head | {name: getattr(calibration, name) for name in ("worse", "one_level")}


def _rows(eligible: Eligible, predictions: Path | None) -> Iterator[str]:
    """Say where the probabilities and levels of rows come from."""
    given = [shares is not None for task_rows in eligible.tasks.values() for shares in task_rows.rows.probabilities]
    if any(given):
        yield f"{sum(given):,} rows have out-of-fold predictions, from {predictions}"
    if not all(given):
        unknown = [name for name, of in eligible.tasks.items() if TRAINED_JSON not in of.files.names]
        known = f"true only if no adapter was fitted to them, which is not known of {first_of(unknown)}"
        yield (
            f"{given.count(False):,} rows were scored by the live versions: "
            f"{known if unknown else 'no adapter was trained on them'}"
        )


def _exceptions(calibration: Calibration) -> Iterator[str]:
    """Name tasks that have no temperature or threshold of their rows."""
    for name, (change, low, high) in calibration.worse.items():
        score = f"Brier score {change:+.3f} [{low:+.3f}, {high:+.3f}]"
        yield f"{name} keeps a temperature of 1: a fitted one makes its confidences worse on held-out rows: {score}"
    for name, share in calibration.one_level.items():
        keep = '([target] one_level = "keep" tests it as other tasks)'
        yield f"{name}: the machine gives one level to {share:.0%} of its rows, so people get all its responses {keep}"
    for name in calibration.failing:
        verdict, fails = calibration.verdicts[name]
        why = f"{verdict}{': ' if fails else ''}{', '.join(fails)}"
        yield f"{name}: people get all its responses for its verdict ([gate] verdict): {why}"
    if any(decision.threshold for decision in calibration.decisions.values()):
        yield (
            "'to people' is a share of these labelled rows, for their confidence alone, and no forecast: conditions, "
            "truncated and unusual responses add to it, and live adapters are often surer than out-of-fold predictions"
        )


def _left_out(calibration: Calibration) -> Iterator[str]:
    """Name tasks and rows that the machine or the calibration leaves out."""
    for reason, rows in sorted(calibration.rows.left_out.items()):
        counts = reason in (RELABELLED, SAME_TEXT)
        yield f"{len(rows):,} rows {reason}" if counts else f"left out: {len(rows):,} rows that {reason}"
    if unchanged := sorted(calibration.rows.tasks.keys() - calibration.decisions.keys()):
        yield (
            f"{len(unchanged)} tasks keep their last calibration, as all of their rows are left out: "
            f"{first_of(unchanged)}"
        )
    yield from reservations(calibration.reasons)


def _promises(calibration: Calibration) -> list[str]:
    """Say which errors the promises bound, and how many of those found may be broken."""
    of_items = {  # traits of an item are tested once
        (calibration.rows.tasks[name].item or (name,))[0]: decision for name, decision in calibration.decisions.items()
    }
    thresholds = [one.threshold for one in of_items.values() if one.threshold and one.threshold.confidence]
    alone, shared = ([threshold for threshold in thresholds if threshold.source == source] for source in (OWN, POOLED))
    if not thresholds:
        return []
    wrong = 1 - (thresholds[0].confidence or 0.0)
    lines = [
        f"Promises are about all responses to come; one that is broken is found in {wrong:.0%} of cases at most. "
        "In a batch of n responses that the machine keeps, the share of errors p varies by √(p (1 − p) / n) around it."
    ]
    looks = [len(decision.looks) for decision in of_items.values()]
    if max(looks) > 1:
        lines.append(
            f"{sum(count > 1 for count in looks)} tasks were tested before, at most {max(looks) - 1} times: each look "
            "has to say more than the last, so that this holds for all of them together"
        )
    if alone:
        count = sum(threshold.least is not None for threshold in alone)
        most = f"; of these, {min(count, wrong * len(alone)):.1f} may break their promise on average" if count else ""
        lines.append(f"{len(alone)} tasks were tested by themselves, {count} have a threshold{most}")
    if shared:
        count = sum(threshold.least is not None for threshold in shared)
        lines.append(
            f"{len(shared)} tasks were tested together, and the promise holds for them together; {count} keep rows for "
            f"the machine, where the task's own rows leave a doubt of {wrong:.0%} at most that it meets the target"
        )
    return lines


def _threshold(threshold: Threshold | None) -> list[str]:
    """Return the least confidence that the machine keeps, the share of rows sent to people, and the promise."""
    if threshold is None:
        return ["–"] * 3
    promises = [f"exact ≥ {threshold.exact:.3g}"] if threshold.exact is not None else []
    promises += [f"critical ≤ {threshold.critical:.3g}"] if threshold.critical is not None else []
    promises += [f"≤ {threshold.within_of_humans:.3g} below humans"] if threshold.within_of_humans is not None else []
    if threshold.total_share is not None:
        promises.append(f"total within {threshold.total_within:g} ≥ {threshold.total_share:.3g}")
    promise = f"{', '.join(promises)} at {threshold.confidence:.0%}" if promises else "none"
    share = f"{threshold.share:.0%}"
    if threshold.least is None:
        return [threshold.reason, share, "all to people"]
    if threshold.source == POOLED:
        promise += f", {threshold.tasks} tasks together"
    return [f"{threshold.least:.3f}", share, promise]
