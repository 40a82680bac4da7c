"""Scored rows beside the levels that humans gave them, and every row that cannot be compared, counted by reason."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from scoremux_assess.labels.joined_columns import (
    TRUTH_COLUMNS,
    JoinedColumns,
    KnownColumns,
    LeftOut,
    OffScale,
    ScoredColumns,
    TruthColumns,
)
from scoremux_assess.labels.points import holds_points, points_of, tasks_beyond_levels
from scoremux_assess.labels.ratings import Floats, Ints, Mask, Ratings, by_cell
from scoremux_assess.labels.scored_output import codes_of, read_scored
from scoremux_assess.labels.weights import SEEN_BY_START, Sample, heavy_rows, population_of, sample_of, to_routes
from scoremux_client.contract import Status
from scoremux_client.errors import InputError
from scoremux_files.rows.columns import (
    Codes,
    Ints32,
    encode,
    numbered,
    numbers,
    present_columns,
    texts,
)
from scoremux_files.rows.readers import MACHINE_COLUMNS, id_start, refuse_machine_levels
from scoremux_files.rows.row_layout import column_of

EXAMPLES = 5
"""Ids that are named for each reason."""

UNKNOWN_LEVELS = 256
"""How many levels a task has if the output has no probabilities: more than any scale."""


def read_joined(output: Path, truth: Path, columns: TruthColumns = TRUTH_COLUMNS) -> JoinedColumns:
    """Read what `scoremux score` wrote and a file of known levels, and match their rows.

    Args:
        output: A file or folder that `scoremux score` wrote.
        truth: A .jsonl, .csv or .parquet file.
        columns: Names of the truth's columns.

    Raises:
        InputError: a file cannot be read, a column is missing, or no row has both.
    """
    joined = join_truth(read_scored(output), truth, columns, output)
    if not len(joined):
        reasons = "; ".join(f"{left_out.count:,} {left_out.reason}" for left_out in joined.left_out)
        raise InputError(f"no row of {output} has a score and a level in {truth} ({reasons})")
    return joined


def read_truth(path: Path, names: TruthColumns = TRUTH_COLUMNS) -> KnownColumns:
    """Read a .jsonl, .csv or .parquet file of known levels. Raises InputError if it cannot, or a column is missing."""
    second, groups, student = names.second, names.groups, names.student
    others = [names.task, names.text, "status", "version", "chosen_by", "probability"]
    columns = present_columns(path, [*names.needed, *others, *MACHINE_COLUMNS], names.needed)
    refuse_machine_levels(path, columns, names.level)
    ids, (level, bad) = texts(columns[column_of(names.id)]), numbers(columns[names.level])
    ids = pc.binary_join_element_wise(id_start(path, names.id, columns), ids, "")
    scored = _scored(columns.get("status"), len(ids))
    level = np.where(scored, level, np.nan)
    none = np.full(len(ids), np.nan), np.zeros(len(ids), bool)
    second_level, second_bad = numbers(columns[second]) if second else none
    codes = {name: encode(columns[name]) for name in groups}
    students = encode(columns[student]) if student else None
    sample = _sample(columns, len(ids))
    apart = np.isnan(sample.weight) & ~np.isnan(level)
    level = np.where(apart, np.nan, level)
    reasons = [
        ("are validity papers or have no probability, and stand for no other rows", apart),
        ("have a status in the truth other than OK", ~scored),
        ("have no level in the truth", np.isnan(level) & ~bad & ~apart & scored),
        ("have a level in the truth that is not a number", bad),
        ("have a second level that is not a number, and count without it", second_bad),
        *([] if students is None else [(f"have no {student}, and each counts by itself", students.code < 0)]),
        *((f"have no {name}, and count for none of its groups", c.code < 0) for name, c in codes.items()),
    ]
    task = encode(columns[names.task]) if names.task in columns else None
    return KnownColumns(
        ids,
        task,
        level,
        second_level,
        codes,
        students,
        sample.weight,
        codes_of(columns, "version", len(ids)),
        sample.routed,
        sample.behind,
        sample.sampled,
        sample.stated,
        bad,
        _lengths(columns[names.text]) if names.text in columns else None,
        _left_out(ids, reasons),
        texts(columns[names.text]) if names.text in columns else None,
    )


def join_truth(scored: ScoredColumns, truth: Path, columns: TruthColumns, output: Path | None = None) -> JoinedColumns:
    """Read a file of known levels and match its rows. Raises InputError, also where they are points of the levels.

    output: the file of `scored`, whose columns are groups and students where the truth has none of these names.
    """
    wanted = {*columns.groups, *([columns.student] if columns.student else [])}
    absent = wanted - present_columns(truth, sorted(wanted), ()).keys() if wanted else set()
    kept = present_columns(output, sorted(absent), ()) if output and absent else {}
    groups = [name for name in columns.groups if name not in kept]
    known = read_truth(
        truth, replace(columns, groups=groups, student=None if columns.student in kept else columns.student)
    )
    if kept:
        found = _of_output(kept, scored, known)
        known.groups.update({name: found[name] for name in columns.groups if name in found})
        known = replace(known, student=found.get(columns.student or "", known.student))
    joined = join(scored, known)
    task = np.append(joined.scored.task.code, joined.off_scale.task)
    numbers = np.append(joined.ratings.human, joined.off_scale.level)
    for code in tasks_beyond_levels(task, numbers, joined.levels):
        rows, levels = scored.task.code == code, int(joined.levels[code])
        points = points_of(scored.level[rows], scored.score[rows], int(scored.width[rows].max(initial=0)))
        if holds_points(numbers[task == code], points, levels):
            name = scored.task.values[code]
            raise InputError(f"{truth}: {columns.level} of {name} has points; give levels, counted from 0")
    return joined


def _of_output(columns: Mapping[str, Any], scored: ScoredColumns, known: KnownColumns) -> dict[str, Codes]:
    """Return for known levels the columns of the output's rows, which a job kept."""
    ours, theirs, distinct = _matching(scored, known)
    found = {}
    for name, column in columns.items():
        codes = encode(column)
        code_of = np.full(distinct + 1, -1, np.int32)
        code_of[ours] = codes.code
        code_of[-1] = -1
        found[name] = Codes(codes.values, code_of[theirs])
    return found


def join(
    scored: ScoredColumns, truth: KnownColumns, names: tuple[str, str] = ("the output", "the truth")
) -> JoinedColumns:
    """Match rows by id, or by id and task if the truth has tasks. A row of a repeated id is not compared.

    Args:
        scored: What the machine gave.
        truth: What humans gave.
        names: What the two are called in `left`.
    """
    output, truth_name = names
    ours, theirs, distinct = _matching(scored, truth)
    most, listed, usable = levels_by_task(scored), ours >= 0, ~np.isnan(truth.level)
    with np.errstate(invalid="ignore"):
        odd = (scored.level < 0) | (scored.level >= np.append(most, 0)[scored.task.code])
    has_score = ~np.isnan(scored.level) & ~odd
    # The place after the last stands for what the truth does not have.
    place = np.full(distinct + 1, -1)
    place[theirs[usable]] = np.flatnonzero(usable)
    times = np.bincount(ours[listed], minlength=distinct + 1)
    repeated = (times > 1)[ours] & listed
    unclear = (np.bincount(theirs[usable], minlength=distinct + 1) > 1)[ours]
    both = np.flatnonzero(has_score & (place[ours] >= 0) & ~repeated & ~unclear)
    first, second = truth.level[place[ours[both]]], truth.second[place[ours[both]]]
    highest = most[scored.task.code[both]]
    # A human may give levels below 0, as many as there are from 0 on: what is lower stands for a missing level.
    off, off_second = ((given > highest - 1) | (given < -highest) for given in (first, second))
    statuses = ((name, scored.status.code == code) for code, name in enumerate(scored.status.values) if name != "OK")
    reasons = [
        *((f"have no score: {name}", rows) for name, rows in statuses),
        (f"have a level in {output} that is off the task's scale, or no task", odd),
        (f"are scored and not in {truth_name}", has_score & ~listed),
        (f"are in {output} with an id that is there several times", has_score & repeated),
        (f"are scored and in {truth_name} several times", has_score & unclear),
        (f"have a level in {truth_name} that is off the task's scale", _at(both[off], len(ours))),
        ("have a second level off the task's scale, and count without it", _at(both[off_second], len(ours))),
    ]
    usable_both = ~off
    beside = _beside_sample(scored.task.code[both[~off]], truth, place[ours[both[~off]]])
    usable_both[~off] = ~beside
    reasons.append(("were sent to people, beside a sample of all responses", _at(both[~off][beside], len(ours))))
    weight, routes = truth.weight[place[ours[both]]], _routes(scored, has_score)
    if routes is not None and scored.to_people is not None:
        read = both[usable_both]
        columns = (scored.task.code[read], scored.to_people[read], weight[usable_both], truth.stated[place[ours[read]]])
        weight[usable_both], shares = to_routes(*columns, routes)
        strange = usable_both & np.isin(scored.task.code[both], list(shares))
        usable_both &= ~strange
        of_tasks = "; ".join(f"{scored.task.values[code]} {share}" for code, share in shares.items())
        no_sample = f"does not say how rows were chosen (chosen_by) and is no sample: sent to people {of_tasks}"
        reasons.append((f"are of tasks whose truth {no_sample}", _at(both[strange], len(ours))))
    absent = [(f"are in {truth_name} and not in {output}", times[theirs] == 0)]
    unusable = np.flatnonzero(has_score & listed & np.isin(ours, theirs[truth.unusable]))
    kept = both[usable_both]
    scores, labels = scored.take(kept), truth.take(place[ours[kept]])
    second_level = np.where(off_second[usable_both], np.nan, labels.second)
    routed = _routed_only(scored, scores, labels)
    weight = weight[usable_both]
    return JoinedColumns(
        scored=scores,
        known=labels,
        ratings=Ratings.of(
            *(labels.level, scores.level, second_level, scores.expected, weight),
            kept=_kept(scores, routed),
            length=labels.length,
        ),
        output=kept,
        levels=most,
        routes=routes,
        off_scale=OffScale(scored.task.code[both[off]], first[off]),
        dropped=np.bincount(scored.task.code[np.append(both[off], unusable)], minlength=len(most)),
        population=_population(scores, routed, weight),
        left_out=(*_left_out(scored.ids, reasons), *_left_out(truth.ids, absent), *truth.left_out),
    )


def _sample(columns: Mapping[str, Any], rows: int) -> Sample:
    chosen_by = texts(columns["chosen_by"]).to_pylist() if "chosen_by" in columns else [None] * rows
    probability = numbers(columns["probability"])[0] if "probability" in columns else np.full(rows, np.nan)
    return sample_of(chosen_by, probability)


def _scored(status: Any, rows: int) -> Mask:
    """Return which rows of a truth have a level: all but those whose status, of an export of ours, says otherwise."""
    if status is None:
        return np.ones(rows, bool)
    accepted = pa.array([Status.OK.value, "", None], pa.string())
    return np.asarray(pc.is_in(texts(status), accepted).to_numpy(zero_copy_only=False), bool)


def _lengths(text: Any) -> Floats:
    return np.asarray(pc.cast(pc.utf8_length(texts(text)), pa.float64()).to_numpy(zero_copy_only=False))


def _beside_sample(task: Ints, truth: KnownColumns, place: Ints) -> Mask:
    """Return which rows people read for their route, where the task's others stand for them: see `routed_beside`."""
    routed, behind = truth.routed[place], ~truth.routed[place] & ~truth.sampled[place]
    versions = task.astype(np.int64) * (len(truth.version.values) + 1) + truth.version.code[place]
    return np.asarray(routed & np.isin(task, task[~routed]) & ~np.isin(versions, versions[behind]))


def _routed_only(scored: ScoredColumns, compared: ScoredColumns, labels: KnownColumns) -> Mask:
    """Return of which tasks the machine keeps rows for which no row stands that people read."""

    def with_some(task: Codes, rows: Mask) -> Mask:
        return np.bincount(task.code[rows & (task.code >= 0)], minlength=len(task.values)) > 0

    kept = ~np.isnan(scored.level) & (scored.to_people is None or ~scored.to_people)
    routed, behind = (with_some(compared.task, rows) for rows in (labels.routed, labels.behind))
    return with_some(scored.task, kept) & routed & ~behind


def _routes(scored: ScoredColumns, has_score: Mask) -> Floats | None:
    """Return `JoinedColumns.routes`."""
    if scored.to_people is None or not scored.to_people[has_score].any():
        return None
    place, tasks = 2 * scored.task.code[has_score].astype(np.int64), len(scored.task.values)
    return by_cell(place + scored.to_people[has_score], np.ones(len(place)), 2 * tasks).reshape(-1, 2)


def _population(compared: ScoredColumns, routed: Mask, weight: Floats) -> str:
    used = np.unique(compared.task.code)
    names = [compared.task.values[code] for code in used if routed[code]]
    population = population_of(names, len(names) < len(used), bool((weight != 1).any()))
    seen = f"{', '.join(compared.seen)}: {SEEN_BY_START}." if compared.seen else ""
    heavy = heavy_rows(compared.ids, compared.task.code, compared.task.values, weight)
    return " ".join(filter(None, (population, heavy, seen)))


def _kept(compared: ScoredColumns, routed: Mask) -> Floats | None:
    """Return which rows the machine keeps, NaN for `routed` tasks; None where it keeps all or has no routes."""
    if compared.to_people is None or not compared.to_people.any():
        return None
    return np.where(routed[compared.task.code], np.nan, ~compared.to_people)


def _matching(scored: ScoredColumns, truth: KnownColumns) -> tuple[Ints32, Ints32, int]:
    """Return a number for what each row is matched by, in both files, and how many numbers there are."""
    ours, theirs = (pc.fill_null(ids, "") for ids in (scored.ids, truth.ids))
    if truth.task is not None:
        ours, theirs = (
            pc.binary_join_element_wise(ids, pc.fill_null(task.texts(), ""), "\x1f")
            for ids, task in ((ours, scored.task), (theirs, truth.task))
        )
    numbers, places, distinct = numbered(theirs, ours)
    return places, numbers, distinct


def levels_by_task(scored: ScoredColumns) -> Ints32:
    """Return how many levels each task has: as many as it has probabilities."""
    most = np.zeros(len(scored.task.values), np.int32)
    named = scored.task.code >= 0
    np.maximum.at(most, scored.task.code[named], scored.width[named])
    return np.where(most > 0, np.minimum(most, UNKNOWN_LEVELS), UNKNOWN_LEVELS).astype(np.int32)


def _at(places: npt.NDArray[np.int64], rows: int) -> Mask:
    mask = np.zeros(rows, bool)
    mask[places] = True
    return mask


def _left_out(ids: Any, reasons: Iterable[tuple[str, Mask]]) -> tuple[LeftOut, ...]:
    """Return those reasons that hold for some row."""
    left_out = []
    for reason, mask in reasons:
        rows = np.flatnonzero(mask)
        if len(rows):
            left_out.append(LeftOut(reason, len(rows), tuple(map(str, ids.take(rows[:EXAMPLES]).to_pylist()))))
    return tuple(left_out)
