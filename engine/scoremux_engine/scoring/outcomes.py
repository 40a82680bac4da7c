"""Logits → levels, scores and probabilities → the wire's output tensors.

Every step is per row, so a row's bits do not depend on its neighbours.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from scoremux_client import contract
from scoremux_client.contract import MACHINE, Reason, Status
from scoremux_engine.bank.live import Described
from scoremux_engine.bank.residents import Version
from scoremux_engine.model.exact_arithmetic import exp
from scoremux_engine.runners.runner import Outputs
from scoremux_engine.scoring.observer import Columns
from scoremux_engine.scoring.permission import Grant
from scoremux_engine.scoring.row_plan import PlannedRow, RowPlan

Floats = npt.NDArray[np.float32]
Levels = npt.NDArray[np.int32]
Texts = npt.NDArray[np.object_]

PEOPLE = "human"


def columns(
    plan: RowPlan, out: Outputs, *, arithmetic: str = "", embeddings: bool = False, uncalibrated: str = PEOPLE
) -> Columns:
    """Return every output tensor by name, batch dimension first (see `scoremux_client.contract`).

    A row whose logits are not finite gets a status: its largest logit would be no score.

    Args:
        out: The runner's outputs; NaN in rows without a score.
        uncalibrated: Who decides about rows of tasks without a calibration, `PEOPLE` or `MACHINE`.
    """
    plan = _without_broken(plan, out.logits)
    size = len(plan.status)
    level, score, probabilities = _scores(plan, out.logits)
    confidence, condition, route, level_range = _decisions(plan, level, probabilities, out.pooled)
    _set_totals(plan, out, level, score)
    if uncalibrated == MACHINE:
        route[route == Reason.UNCALIBRATED.route.encode()] = MACHINE.encode()
    status, version, computed, feedback = (_texts(size) for _ in range(4))
    status[:, 0] = [one.value.encode() for one in plan.status]
    tokens = np.zeros((size, 1), dtype=np.int32)
    truncated = np.zeros((size, 1), dtype=np.bool_)
    for row in plan.rows:
        version[row.place, 0] = row.version.digest.encode()
        computed[row.place, 0] = arithmetic.encode()
        tokens[row.place, 0] = len(row.tokens.ids)
        truncated[row.place, 0] = row.tokens.truncated
        if row.version.task.feedback:
            feedback[row.place, 0] = row.version.task.feedback[level[row.place, 0]].encode()
    for place, (coding, coded_as) in plan.coded.items():
        version[place, 0] = coding.digest.encode()
        condition[place, 0] = coded_as.code.encode()
    own_levels = np.maximum(probabilities, np.float32(contract.LEAST_PROBABILITY))  # NaN stays
    values = (
        status,
        level,
        _instead(score, contract.NO_SCORE),
        _instead(own_levels, 0),
        version,
        tokens,
        truncated,
        _instead(confidence, contract.NO_CONFIDENCE),
        condition,
        route,
        level_range,
        computed,
        feedback,
    )
    named: Columns = {spec.name: value for spec, value in zip(contract.OUTPUTS, values, strict=True)}
    if embeddings and out.pooled is not None:
        named[contract.EMBEDDING.name] = _instead(out.pooled, 0)
    return named


def _scores(plan: RowPlan, logits: Floats) -> tuple[Levels, Floats, Floats]:
    """Return level and score [B, 1] and probabilities [B, L_max]; −1 and NaN where a row has none."""
    level = np.full((len(logits), 1), -1, dtype=np.int32)
    score = np.full((len(logits), 1), np.nan, dtype=np.float32)
    probabilities = np.full(logits.shape, np.nan, dtype=np.float32)
    for (levels, outputs), rows in _by_width([row for row in plan.rows if not row.version.task.total]).items():
        places = [row.place for row in rows]
        points = np.array([row.version.task.levels for row in rows])
        if outputs == 1:
            level[places, 0] = nearest(logits[places, 0], points)
        else:
            level[places, 0], probabilities[places, :levels] = decide(logits[places, :levels])
        score[places, 0] = points[np.arange(len(places)), level[places, 0]]
    return level, score, probabilities


def _decisions(
    plan: RowPlan, level: Levels, probabilities: Floats, pooled: Floats | None
) -> tuple[Floats, Texts, Texts, Levels]:
    """Return confidence, condition and route [B, 1] and the range of levels [B, 2] as each version decides."""
    size = len(plan.status)
    confidence = np.full((size, 1), np.nan, dtype=np.float32)
    condition, route = _texts(size), _texts(size)
    route[:, 0] = [contract.route_without_score(status).encode() for status in plan.status]
    level_range = np.full((size, 2), contract.NO_RANGE, dtype=np.int32)
    for row in plan.rows:
        place = row.place
        shares = probabilities[place, : len(row.version.task.levels)].tolist()
        vector = None if pooled is None else pooled[place]
        least = _least_confidence(row.version, plan.items[place]) if place in plan.items else None
        decide_row = row.version.decider.decide
        decision = decide_row(int(level[place, 0]), shares, row.condition, row.tokens.truncated, vector, least)
        confidence[place, 0], level_range[place] = decision.confidence, decision.level_range
        condition[place, 0], route[place, 0] = decision.condition.encode(), decision.route.encode()
    return confidence, condition, route, level_range


def _least_confidence(trait: Version, logits: Floats) -> float:
    """Return the least confidence of a response's traits, NaN where one has none; logits: of all traits."""
    item = trait.whole or trait
    confidences = []
    for name, (task, first, end) in item.task.slices.items():
        if task.total is None:
            (level,), (shares,) = decide(logits[None, first:end])
            decided = item.decider.trait(name).decide(int(level), shares.tolist(), None, False, None)
            confidences.append(decided.confidence)
    return float(np.min(confidences))


def _set_totals(plan: RowPlan, out: Outputs, level: Levels, score: Floats) -> None:
    """Set level and points of rows that ask for a total."""
    for row in plan.rows:
        task, whole = row.version.task, row.version.whole
        if task.total is None or whole is None:
            continue
        points = dict[str, float | None]()
        for name in task.total.traits:
            own, first, end = whole.task.slices[name]
            levels, _ = decide(out.logits[[row.place], first:end])
            points[name] = own.levels[levels[0]]
        total = task.total.of(points)
        assert total is not None  # each trait has a level
        level[row.place, 0], score[row.place, 0] = task.levels.index(total), total


def nothing_on_request(rows: int) -> Columns:
    """Return EMBEDDING and TASKS for a request that asks for all outputs: both are empty."""
    vectors = np.empty((rows, 0), dtype=np.float32)
    return {contract.EMBEDDING.name: vectors, contract.TASKS.name: _texts(rows)}


def _texts(rows: int) -> Texts:
    """Return empty texts [B, 1]."""
    return np.full((rows, 1), b"", dtype=np.object_)


def _instead(values: Floats, none: float) -> Floats:
    """Return the values with `none` in place of NaN."""
    return np.where(np.isnan(values), np.float32(none), values)


class TaskLists:
    """Writes TASKS. Lists are kept, by patterns of grants, for as long as the tasks stay. Thread-safe.

    most_bytes: of the lists that are kept.
    """

    def __init__(self, most_bytes: int = 32 << 20) -> None:
        self._most_bytes = most_bytes
        self._kept: tuple[Described, dict[tuple[str, ...], bytes]] = {}, {}

    def columns(self, described: Described, rows: int, grant: Grant | None) -> Columns:
        """Return TASKS for a request: the list of tasks that the grant allows, all without one, is in the first row."""
        lists = self._kept
        if lists[0] is not described:
            lists = self._kept = described, {}
        kept, patterns = lists[1], grant.tasks if grant else ()
        text = kept.get(patterns)
        if text is None:
            text = _listed(described, grant)
            if sum(map(len, [*kept.values(), text])) <= self._most_bytes:
                kept[patterns] = text
        column = _texts(rows)
        column[:1, 0] = text
        return {contract.TASKS.name: column}


def _listed(described: Described, grant: Grant | None) -> bytes:
    ids = Counter(version for version, _ in described.values())

    def allows(task: str, version: str) -> bool:
        item = task.rpartition(".")[0] if ids[version] > 1 else ""  # of a trait
        return grant is None or grant.allows(task) or (item != "" and grant.allows(item))

    listed = [  # one by one: json would keep Python's lock for the whole of a long list
        json.dumps({"id": task, "version": version, "levels": levels})
        for task, (version, levels) in sorted(described.items())
        if allows(task, version)
    ]
    return f"[{', '.join(listed)}]".encode()


def nearest(values: Floats, points: npt.NDArray[np.float64]) -> Levels:
    """level[b] = argmin |points[b] − value[b]|, the lower level on a tie.

    values float32 [B], what heads with one output gave; points float64 [B, L], ascending: of tasks that all have L
    levels.
    """
    closest: npt.NDArray[np.int64] = np.abs(points - values.astype(np.float64)[:, None]).argmin(axis=1)
    return closest.astype(np.int32)


def decide(logits: Floats) -> tuple[Levels, Floats]:
    """level = argmax(logits), the lower level on a tie; p[i] = exp(z[i] − max z) / Σ exp(z − max z).

    logits float32 [B, L], of tasks that all have L levels; level int32 [B], p float32 [B, L]. The sum runs over a row's
    own levels only, one after the other in float64, whatever the widest task beside it is.
    """
    wide = logits.astype(np.float64)
    powers = exp(wide - wide.max(axis=1, keepdims=True))
    total = powers[:, 0].copy()
    for column in powers.T[1:]:
        total += column
    return logits.argmax(axis=1).astype(np.int32), (powers / total[:, None]).astype(np.float32)


def _without_broken(plan: RowPlan, logits: Floats) -> RowPlan:
    finite = np.isfinite(logits).sum(axis=1).tolist()  # NaN beyond a row's own outputs
    broken = {row.place for row in plan.rows if finite[row.place] < row.version.outputs}
    if not broken:
        return plan
    status = [Status.NOT_FINITE if place in broken else status for place, status in enumerate(plan.status)]
    return replace(plan, status=status, rows=[row for row in plan.rows if row.place not in broken])


def _by_width(rows: Sequence[PlannedRow]) -> dict[tuple[int, int], list[PlannedRow]]:
    """Return the rows by their task's number of levels and their head's number of outputs."""
    by_width: dict[tuple[int, int], list[PlannedRow]] = {}
    for row in rows:
        by_width.setdefault((len(row.version.task.levels), row.version.outputs), []).append(row)
    return by_width
