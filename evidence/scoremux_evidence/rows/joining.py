"""Scored rows beside the levels that humans gave them, and every row that cannot be compared, counted by reason."""

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scoremux_client.contract import Status
from scoremux_client.errors import InputError
from scoremux_evidence.rows.joined_columns import (
    EXAMPLES,
    UNKNOWN_LEVELS,
    JoinedColumns,
    KnownColumns,
    LeftOut,
    ScoredColumns,
    taken,
)
from scoremux_evidence.rows.label_table import LabelTable, read_labels
from scoremux_evidence.rows.labelled_row import LABEL_COLUMNS, NO_LEVEL, NO_NUMBER, NO_SECOND, LabelColumns, LabelledRow
from scoremux_evidence.rows.points import evenly_spaced, filled, holds_points, shown_points
from scoremux_evidence.rows.ratings import Floats, Ints, Mask, Ratings, by_cell, own_numbers, undefined
from scoremux_evidence.rows.scored_output import read_scored
from scoremux_evidence.rows.trained_rows import SAME_TEXT, TRAINED_ON, TrainedVersions
from scoremux_evidence.rows.weights import SEEN_BY_START, heavy_rows, population_of, to_routes
from scoremux_files.rows.columns import Codes, Ints32, encode, numbered, present_columns, texts


def read_joined(
    output: Path, truth: Path, columns: LabelColumns = LABEL_COLUMNS, tasks: Path | None = None
) -> JoinedColumns:
    """Read an output of `scoremux score` and a file of known levels, and match their rows.

    Args:
        output: A file or folder that `scoremux score` wrote.
        truth: A .jsonl, .csv or .parquet file.
        columns: Names of the truth's columns.
        tasks: The store, whose packages say which rows the versions were trained on; None: nothing is known.

    Raises:
        InputError: a file cannot be read, a column is missing, or no row has both.
    """
    scored = read_scored(output)
    joined = join_truth(
        scored,
        truth,
        columns,
        TrainedVersions.read(tasks, scored.versions),
        output,
    )
    if not len(joined):
        reasons = "; ".join(f"{left_out.rows:,} {left_out.reason}" for left_out in joined.left_out)
        raise InputError(
            f"no row of {output} has a score and a level in {truth} ({reasons}); rows match by "
            "id, task and administration, where both have these, and 7.0 is not 7"
        )
    return joined


def join_truth(
    scored: ScoredColumns, truth: Path, columns: LabelColumns, trained: TrainedVersions, output: Path | None = None
) -> JoinedColumns:
    """Read a file of known levels and match its rows.

    Args:
        trained: Rows that some version was trained on are left out.
        output: The file of `scored`, whose columns are groups and students where the truth has none of these names.

    Raises:
        InputError: As `read_joined`, and where known levels are points.
    """
    table = read_labels([truth], replace(columns, groups=(*columns.groups, "status")))
    has_points = "score" in table.present
    points = shown_points(
        scored.task.code,
        scored.level,
        scored.score,
        scored.levels,
    )
    if has_points:
        _take_levels(table, scored, points)
    of_truth = "student" in table.present
    absent = {*columns.groups, "" if of_truth else columns.student} - {"", *table.names}
    kept = present_columns(output, sorted(absent), ()) if output and absent else {}
    required = replace(
        columns,
        groups=[name for name in columns.groups if name not in kept],
        student="" if columns.student in kept else columns.student,
    )
    table.require(required, "id", *([] if has_points else ["level"]))
    joined = join(scored, _truth_columns(table, columns, absent, trained))
    of_output = {name: encode(column).take(joined.output) for name, column in kept.items()}
    groups = joined.truth.groups | of_output
    student = of_output.get(columns.student, joined.truth.student)
    joined = replace(
        joined,
        truth=replace(joined.truth, groups={name: groups[name] for name in columns.groups}, student=student),
        ratings=replace(joined.ratings, student=own_numbers(student.code)) if student else joined.ratings,
        points=points,
        population=" ".join(filter(None, (joined.population, trained.in_words()))),
    )
    _refuse_points(joined, f"{truth}: {columns.level}")
    return joined


def _refuse_points(joined: JoinedColumns, column: str) -> None:
    """Raise InputError where known levels are points. column: their file and column, for the message."""
    off_task, off_level = joined.off_scale
    task = np.append(joined.scored.task.code, off_task)
    numbers = np.append(joined.ratings.human, off_level)
    is_level = (numbers == np.floor(numbers)) & (numbers >= 0) & (numbers < joined.levels[task])
    for code in np.unique(task[~is_level]):
        levels = int(joined.levels[code])
        points = joined.points[code]
        of_task = points if levels == UNKNOWN_LEVELS else evenly_spaced(points)
        if holds_points(numbers[task == code], of_task, levels):
            name = joined.scored.task.values[code]
            raise InputError(f"{column} of {name} has points; name it with --column score=NAME")


def _take_levels(table: LabelTable, scored: ScoredColumns, points: Floats) -> None:
    """Give rows that have points alone the levels of these; add points that only people gave to `points`, [T, L]."""
    rows = [row for row in table.rows if math.isnan(row.level) and not math.isnan(row.score)]
    tasks = [row.task for row in rows]
    if "task" not in table.present:
        ids = pa.array([row.id for row in rows], pa.large_string())
        places = pc.index_in(ids, value_set=pc.cast(scored.ids, "large_string"))
        tasks = scored.task.texts().take(places).to_pylist()
    with_points = defaultdict[str | None, list[LabelledRow]](list)
    for row, task in zip(rows, tasks, strict=True):
        with_points[task].append(row)
    if np.isinf(points).any():
        raise InputError("versions of a task in the output have levels of different points: give levels, not points")
    for task, of_task, count in zip(scored.task.values, points, scored.levels, strict=True):
        human_points = np.array([(row.score, row.second) for row in with_points[task]], np.float64).ravel()
        of_task[:count] = filled(of_task[:count], human_points)
        for row in with_points[task]:
            row.take_level(of_task[:count].tolist())


def _truth_columns(
    table: LabelTable, columns: LabelColumns, absent: Collection[str], trained: TrainedVersions
) -> KnownColumns:
    """Return the rows of a table as columns. absent: columns that the file does not have."""
    rows = table.rows
    sample = table.sample()

    def codes(values: Iterable[str | None]) -> Codes:
        return encode(pa.array([*values], "string"))

    def remarked(remark: str) -> Mask:
        return np.array([remark in row.remarks for row in rows], bool)

    ids = texts(pa.array([row.id for row in rows], pa.string()))
    not_ok = np.array(
        [row.groups["status"] not in ("", Status.OK.value) for row in rows],
        bool,
    )
    level = np.where(not_ok, np.nan, [row.score if math.isnan(row.level) else row.level for row in rows])
    groups = {name: codes(row.groups[name] for row in rows) for name in columns.groups if name not in absent}
    student = codes(row.student for row in rows) if columns.student and columns.student not in absent else None
    on = np.array(
        [any(of.has(row) for of in trained.of(row)) for row in rows],
        bool,
    )
    same = ~on & np.array([any(of.has_text(row) for of in trained.of(row)) for row in rows], bool)
    apart = np.isnan(sample.weight) & ~np.isnan(level) & ~on
    bad = remarked(NO_NUMBER)
    unknown = remarked(NO_LEVEL)
    reasons = [
        ("are validity papers or have no probability, and stand for no other rows", apart),
        (TRAINED_ON, on),
        (SAME_TEXT, same),
        ("have a status in the truth other than OK", not_ok),
        ("have no level in the truth", np.isnan(level) & ~bad & ~unknown & ~not_ok),
        (NO_NUMBER, bad),
        (f"have {NO_LEVEL}, as far as the output shows", unknown),
        (NO_SECOND, remarked(NO_SECOND)),
        *([] if student is None else [(f"have no {columns.student}, and each counts by itself", student.code < 0)]),
        *((f"have no {name}, and count for none of its groups", c.code < 0) for name, c in groups.items()),
    ]
    return KnownColumns(
        ids=ids,
        task=codes(row.task for row in rows) if "task" in table.present else None,
        level=np.where(apart | on, np.nan, level),
        second=np.array(
            [row.second for row in rows],
            np.float64,
        ),
        groups=groups,
        student=student,
        sample=sample,
        version=codes(row.version for row in rows),
        unusable=bad | unknown,
        length=np.array([len(row.response) if row.response.strip() else np.nan for row in rows], np.float64),
        left_out=(*_left_out(ids, reasons), *_lines_left_out(table)),
        administration=codes(row.administration for row in rows) if "administration" in table.present else None,
    )


def join(
    scored: ScoredColumns, truth: KnownColumns, names: tuple[str, str] = ("the output", "the truth")
) -> JoinedColumns:
    """Match rows by id, or by id and task if the truth has tasks. A row of a repeated id is not compared.

    Args:
        names: Names of the two in `left_out`.
    """
    output, truth_name = names
    ours, theirs, distinct = _matching(scored, truth)
    levels = scored.levels
    task = scored.task.code
    highest = np.append(levels, 0)[task]
    with undefined():
        odd = (scored.level < 0) | (scored.level >= highest)
    has_score = ~np.isnan(scored.level) & ~odd
    listed = ours >= 0
    usable = ~np.isnan(truth.level)
    # The place after the last stands for what the truth does not have.
    place = np.full(distinct + 1, -1)
    place[theirs[usable]] = np.flatnonzero(usable)
    place = place[ours]
    times = np.bincount(ours[listed], minlength=distinct + 1)
    repeated = listed & (times > 1)[ours]
    unclear = (np.bincount(theirs[usable], minlength=distinct + 1) > 1)[ours]
    both = has_score & (place >= 0) & ~repeated & ~unclear
    level, off = _given(truth.level, both, place, highest)
    _, off_second = _given(truth.second, both, place, highest)
    statuses = ((name, scored.status.code == code) for code, name in enumerate(scored.status.values) if name != "OK")
    routes = _routes(scored, has_score)
    sampled, weight, others = _as_sample(
        scored,
        truth,
        place,
        both & ~off,
        routes,
    )
    reasons = [
        *((f"have no score: {name}", rows) for name, rows in statuses),
        (f"have a level in {output} that is off the task's scale, or no task", odd),
        (f"are scored and not in {truth_name}", has_score & ~listed),
        (f"are in {output} with an id that is there several times", has_score & repeated),
        (f"are scored and in {truth_name} several times", has_score & unclear),
        (f"have a level in {truth_name} that is off the task's scale", off),
        ("have a second level off the task's scale, and count without it", off_second),
        *others,
    ]
    absent = [(f"are in {truth_name} and not in {output}", times[theirs] == 0)]
    unusable = has_score & listed & np.isin(ours, theirs[truth.unusable])
    kept = np.flatnonzero(sampled)
    scores = taken(scored, kept)
    labels = taken(truth, place[kept])
    labels = replace(labels, groups={name: codes.take(place[kept]) for name, codes in truth.groups.items()})
    routed = _routed_only(scored, scores, labels)
    return JoinedColumns(
        scored=scores,
        truth=labels,
        ratings=Ratings.of(
            labels.level,
            scores.level,
            np.where(off_second[kept], np.nan, labels.second),
            scores.expected,
            weight[kept],
            kept=np.where(routed[scores.task.code], np.nan, ~scores.to_people) if scores.to_people.any() else None,
            length=labels.length,
        ),
        output=kept,
        levels=levels,
        routes=routes,
        sizes=np.bincount(task[has_score], minlength=len(levels)),
        off_scale=(task[off], level[off]),
        dropped=np.bincount(np.append(task[off], task[unusable]), minlength=len(levels)),
        population=_population(scores, routed, weight[kept]),
        left_out=(*_left_out(scored.ids, reasons), *_left_out(truth.ids, absent), *truth.left_out),
    )


def _given(
    column: Floats,
    both: Mask,
    place: Ints,
    highest: Ints32,
) -> tuple[Floats, Mask]:
    """Return a human's level of rows that have one in both files, and which of them are off the task's scale.

    A human may give levels below 0, as many as there are from 0 on: a lower one stands for a missing level.
    """
    given = np.where(both, np.append(column, np.nan)[place], np.nan)
    return given, (given > highest - 1) | (given < -highest)


def _as_sample(
    scored: ScoredColumns, truth: KnownColumns, place: Ints, both: Mask, routes: Floats | None
) -> tuple[Mask, Floats, list[tuple[str, Mask]]]:
    """Return which rows are a sample of their tasks, their weights, and why others are not.

    Args:
        place: Of each row in the truth.
        both: Which rows have both levels.
    """
    task = scored.task.code
    weight = np.append(truth.sample.weight, np.nan)[place]
    beside = np.zeros(len(task), bool)
    beside[both] = _beside_sample(task[both], truth, place[both])
    usable = both & ~beside
    reasons = [("were sent to people, beside a sample of all responses", beside)]
    if routes is not None:
        stated = truth.sample.stated[place[usable]]
        weight[usable], shares = to_routes(
            task[usable],
            scored.to_people[usable],
            weight[usable],
            stated,
            routes,
        )
        strange = usable & np.isin(task, list(shares))
        usable &= ~strange
        of_tasks = "; ".join(f"{scored.task.values[code]} {share}" for code, share in shares.items())
        no_sample = f"does not say how rows were chosen (chosen_by) and is not a sample: sent to people {of_tasks}"
        reasons.append((f"are of tasks whose truth {no_sample}", strange))
    return usable, weight, reasons


def _beside_sample(task: Ints32, truth: KnownColumns, place: Ints) -> Mask:
    """Return which rows people read for their route, where the task's others stand for them: see `routed_beside`."""
    routed = truth.sample.routed[place]
    behind = ~routed & ~truth.sample.sampled[place]
    width = len(truth.version.values) + 1
    version = task.astype(np.int64) * width + truth.version.code[place]
    has_others = np.isin(task, task[~routed])
    has_behind = np.isin(version, version[behind])
    return routed & has_others & ~has_behind


def _routed_only(scored: ScoredColumns, compared: ScoredColumns, labels: KnownColumns) -> Mask:
    """Return of which tasks the machine keeps rows for which no row stands that people read."""

    def with_some(task: Codes, rows: Mask) -> Mask:
        codes = task.code[rows & (task.code >= 0)]
        return np.bincount(codes, minlength=len(task.values)) > 0

    kept = ~np.isnan(scored.level) & ~scored.to_people
    routed = with_some(compared.task, labels.sample.routed)
    behind = with_some(compared.task, labels.sample.behind)
    return with_some(scored.task, kept) & routed & ~behind


def _routes(scored: ScoredColumns, has_score: Mask) -> Floats | None:
    """Return `JoinedColumns.routes`."""
    if not scored.to_people[has_score].any():
        return None
    place = 2 * scored.task.code[has_score].astype(np.int64)
    tasks = len(scored.task.values)
    counts = by_cell(place + scored.to_people[has_score], np.ones(len(place)), 2 * tasks)
    return counts.reshape(-1, 2)


def _population(compared: ScoredColumns, routed: Mask, weight: Floats) -> str:
    used = np.unique(compared.task.code)
    names = [compared.task.values[code] for code in used if routed[code]]
    population = population_of(
        names,
        len(names) < len(used),
        bool((weight != 1).any()),
    )
    start_note = f"{', '.join(compared.seen_by_start)}: {SEEN_BY_START}." if compared.seen_by_start else ""
    heavy = heavy_rows(
        compared.ids,
        compared.task.code,
        compared.task.values,
        weight,
    )
    return " ".join(filter(None, (population, heavy, start_note)))


def _matching(scored: ScoredColumns, truth: KnownColumns) -> tuple[Ints32, Ints32, int]:
    """Return a number for the key of each row, in both files, and how many numbers there are.

    Rows match by their ids, and by task and administration where both files have these.
    """
    columns = [(scored.task, truth.task), (scored.administration, truth.administration)]
    pairs = [(ours, theirs) for ours, theirs in columns if ours is not None and theirs is not None]
    ours, theirs = (
        pc.binary_join_element_wise(
            *(pc.fill_null(column, "") for column in (ids, *of_file)),
            "\x1f",
        )
        for ids, of_file in (
            (scored.ids, [ours.texts() for ours, _ in pairs]),
            (truth.ids, [theirs.texts() for _, theirs in pairs]),
        )
    )
    numbers, places, distinct = numbered(theirs, ours)
    return places, numbers, distinct


def _lines_left_out(table: LabelTable) -> Iterator[LeftOut]:
    for reason in dict.fromkeys(line.reason for line in table.left_out):
        lines = [f"line {line.line}" for line in table.left_out if line.reason == reason]
        yield LeftOut(f"are {reason}", len(lines), tuple(lines[:EXAMPLES]))


def _left_out(ids: Any, reasons: Iterable[tuple[str, Mask]]) -> tuple[LeftOut, ...]:
    """Return those reasons that hold for some row."""
    places = ((reason, np.flatnonzero(mask)) for reason, mask in reasons)
    return tuple(LeftOut.of(reason, ids, rows) for reason, rows in places if len(rows))
