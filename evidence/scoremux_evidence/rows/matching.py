"""Scored rows beside the levels that humans gave them, and every row that cannot be compared, counted by reason."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scoremux_client.errors import InputError
from scoremux_decide.total import Total
from scoremux_evidence.rows import rules
from scoremux_evidence.rows.code_gaps import code_gaps
from scoremux_evidence.rows.label_columns import LABEL_COLUMNS, LabelColumns
from scoremux_evidence.rows.points import (
    evenly_spaced,
    filled,
    holds_points,
    published_points,
    published_totals,
    shown_points,
    take_levels,
)
from scoremux_evidence.rows.reading import Labels, read_labels
from scoremux_evidence.rows.scored_output import UNKNOWN_LEVELS, level_counts, read_scored, versions_of
from scoremux_evidence.rows.table import RATED, Floats, Ints, Mask, Rows, by_cell, groups_of, own_numbers, undefined
from scoremux_evidence.rows.trained_rows import TrainedVersions
from scoremux_evidence.rows.weighing import (
    READ_BEHIND,
    ROUTE,
    SAMPLE,
    chosen,
    heavy_rows,
    population_of,
    routed_beside,
    to_routes,
)
from scoremux_files.rows.codes import Codes, Ints32
from scoremux_files.rows.columns import arrow_texts, encode, numbered, present_columns, texts

UNNAMED = "Nothing says who wrote a row (--column student=NAME): if students wrote several, intervals are too narrow."


@dataclass(frozen=True)
class Matched:
    """Rows that have both a score and a human's level, B of them, and what is known of their tasks.

    Attributes:
        rows: With the columns of the output (`scored_output`), and of the truth: those of `rated`, chosen_by,
            weight_read (before weights are scaled to routes) and `group NAME`.
        output: The place of each row among those of the output, from 0.
        levels: How many levels each task has.
        points: Those of each task's levels, as far as output and truth show them, else NaN or inf, [T, L].
        routes: How many scored rows of each task of the output the machine keeps, and how many were sent to people,
            [T, 2]; None where it keeps all, or has no routes.
        sizes: How many scored rows each task of the output has.
        off_scale: The tasks and human levels of rows that are left out since their level is off the scale.
        dropped: How many scored rows of each task have a human's level that is off the scale or not a number.
        population: Which rows the figures are about, where these are not simply the rows themselves; else empty.
        totals: The rules of items' totals, where they are known.
        code_gaps: Sentences about condition codes that a group has more often than others.
    """

    rows: Rows
    output: Ints
    levels: Ints32
    routes: Floats | None
    sizes: Ints
    off_scale: tuple[Ints32, Floats]
    dropped: Ints
    population: str
    points: Floats = field(default_factory=lambda: np.zeros((0, 0)))
    totals: Mapping[str, Total] = field(default_factory=dict)
    code_gaps: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def rated(self) -> Rows:
        """The columns that figures of levels need."""
        return self.rows.only(RATED)

    @property
    def groups(self) -> dict[str, Codes]:
        """The columns of groups, by the names that they have in the truth."""
        return groups_of(self.rows)


def match_files(output: Path, truth: Path, columns: LabelColumns = LABEL_COLUMNS, tasks: Path | None = None) -> Matched:
    """Read an output of `scoremux score` and a file of known levels, and match their rows.

    Args:
        output: A file or folder that `scoremux score` wrote.
        truth: A .jsonl, .csv or .parquet file.
        columns: Names of the truth's columns.
        tasks: The store, whose packages say which rows the versions were trained on and what points their levels
            have; None: the first is not known, and points are as the output shows them.

    Raises:
        InputError: a file cannot be read, a column is missing, or no row has both.
    """
    matched = match_truth(read_scored(output), truth, columns, tasks, output)
    if not len(matched):
        reasons = "; ".join(f"{len(rows):,} {reason}" for reason, rows in matched.rows.left_out.items())
        raise InputError(
            f"no row of {output} has a score and a level in {truth} ({reasons}); rows match by "
            "id, task and administration, where both have these, and 7.0 is not 7"
        )
    return matched


def match_truth(
    scored: Rows,
    truth: Path,
    columns: LabelColumns,
    tasks: Path | None = None,
    output: Path | None = None,
    versions: Iterable[tuple[str, str]] = (),
) -> Matched:
    """Read a file of known levels and match its rows.

    Args:
        tasks: See `match_files`.
        output: The file of `scored`, whose columns are groups and students where the truth has none of these names.
        versions: Tasks and versions beside those of `scored`, which were trained on no row that counts either.

    Raises:
        InputError: As `match_files`, and where known levels are points.
    """
    labels = read_labels([truth], columns)
    if not labels.names:
        raise InputError(f"{truth} has no rows")
    has_points = "score" in labels.present
    points = shown_points(scored.task.code, scored.machine, scored.score, counts := level_counts(scored))
    versions = [*versions, *versions_of(scored)]
    trained = TrainedVersions.read(tasks, versions)
    for task, scale in published_points(tasks, versions).items():
        place = scored.task.place(task)
        if place >= 0 and len(scale) == counts[place]:
            points[place, : len(scale)] = scale
    if has_points:
        labels = replace(labels, rows=_with_levels(labels, scored, points))
    of_truth = "student" in labels.present
    absent = {*columns.groups, "" if of_truth else columns.student} - {"", *labels.names}
    kept = present_columns(output, sorted(absent), ()) if output and absent else {}
    required = replace(
        columns,
        groups=[name for name in columns.groups if name not in kept],
        student="" if columns.student in kept else columns.student,
    )
    labels.require(required, "id", *([] if has_points else ["level"]))
    known = _known(labels, columns, absent, trained)
    matched = match(scored, known)
    rows = matched.rows
    of_output = {name: encode(column).take(matched.output) for name, column in kept.items()}
    groups = matched.groups | of_output
    if columns.student in of_output:
        rows = rows.plus(student=of_output[columns.student])
    whose = [name for name in ("student", "cluster") if name in rows]
    rows = rows.plus(**{name: own_numbers(rows[name].code) for name in whose})
    matched = replace(
        matched,
        rows=rows.plus(**{f"group {name}": groups[name] for name in columns.groups}),
        points=points,
        totals=published_totals(tasks, versions),
        code_gaps=tuple(code_gaps(scored.condition, *_of_all_rows(scored, known, columns, kept)) if groups else ()),
        population=" ".join(filter(None, (matched.population, trained.in_words(), "" if whose else UNNAMED))),
    )
    _refuse_points(matched, f"{truth}: {columns.level}")
    return matched


def _of_all_rows(
    scored: Rows, known: Rows, columns: LabelColumns, kept: Mapping[str, pa.Array]
) -> tuple[Codes | None, dict[str, Codes]]:
    """Return students and groups of all scored rows. kept: columns of the output."""
    ours, theirs, distinct = _numbered(scored, known)
    place = np.full(distinct + 1, -1)
    place[theirs] = np.arange(len(known))
    place = place[ours]
    found = {name: encode(column) for name, column in kept.items()}
    of_known = groups_of(known) | ({columns.student: known.student} if "student" in known else {})
    for name, of_truth in of_known.items():
        found[name] = Codes(of_truth.values, np.append(of_truth.code, np.int32(-1))[place])
    return found.get(columns.student), {name: found[name] for name in columns.groups}


def _refuse_points(matched: Matched, column: str) -> None:
    """Raise InputError where known levels are points. column: their file and column, for the message."""
    off_task, off_level = matched.off_scale
    task = np.append(matched.rows.task.code, off_task)
    numbers = np.append(matched.rows.human, off_level)
    is_level = (numbers == np.floor(numbers)) & (numbers >= 0) & (numbers < matched.levels[task])
    for code in np.unique(task[~is_level]):
        levels = int(matched.levels[code])
        points = matched.points[code]
        of_task = points if levels == UNKNOWN_LEVELS else evenly_spaced(points)
        if holds_points(numbers[task == code], of_task, levels):
            name = matched.rows.task.values[code]
            raise InputError(f"{column} of {name} has points; name it with --column score=NAME")


def _with_levels(labels: Labels, scored: Rows, points: Floats) -> Rows:
    """Return rows that have points alone with the levels of these; add points that only people gave to `points`."""
    rows = labels.rows
    if "task" in labels.present:
        place = np.array([*(scored.task.place(task) for task in rows.task.values), -1])
        task = place[rows.task.code]
    else:
        ids = pc.index_in(pa.array(rows.id, "large_string"), value_set=pc.cast(scored.id, "large_string"))
        task = np.append(scored.task.code, -1)[pc.fill_null(ids, -1)]
    if np.isinf(points).any():
        raise InputError("versions of a task in the output have levels of different points: give levels, not points")
    with_points = np.isnan(rows.level) & ~np.isnan(rows.score)
    for code, count in enumerate(level_counts(scored)):
        part = with_points & (task == code)
        given = np.stack([rows.score[part], rows.second[part]], axis=1).ravel()
        points[code, :count] = filled(points[code, :count], given)
    return take_levels(rows, task, points.tolist())


def _known(labels: Labels, columns: LabelColumns, absent: Collection[str], trained: TrainedVersions) -> Rows:
    """Return the rows of a truth for `match`. absent: columns that the file does not have.

    Rows that do not count stay, without a level, and `left_out` says why.
    """
    rows = labels.rows
    student = columns.student if columns.student and columns.student not in absent else ""
    groups = [name for name in columns.groups if name not in absent]
    lacking = rules.without_level(rows)
    level = np.where(
        np.logical_or.reduce([*lacking.values()]), np.nan, np.where(np.isnan(rows.level), rows.score, rows.level)
    )
    (is_apart,) = rules.not_a_sample(rows).values()
    learned = rules.learned(rows, trained, ~np.isnan(level) & ~is_apart)
    is_learned = learned[rules.TRAINED_ON]
    left_out = {
        rules.NOT_A_SAMPLE: is_apart & ~np.isnan(level) & ~is_learned,
        **learned,
        **lacking,
        rules.NO_SECOND: rows.no_second,
        **rules.without_group(rows, student, groups),
    }
    ids = texts(pa.array(rows.id, pa.string()))
    length = [len(text) if (text or "").strip() else np.nan for text in rows.text]
    kept = ["version", "second", "weight", "chosen_by", "stated"]
    kept += [name for name in ("task", "administration", "cluster") if name in labels.present]
    kept += ["student"] if student else []
    known = rows.only([*kept, *(f"group {name}" for name in groups)]).plus(
        id=ids,
        human=np.where(is_apart | is_learned, np.nan, level),
        unusable=rows.no_number | rows.no_level,
        length=np.array(length, np.float64),
    )
    return known.counting(left_out).noting(rows.left_out)


def match(scored: Rows, truth: Rows, names: tuple[str, str] = ("the output", "the truth")) -> Matched:
    """Match rows by id, and by task and administration where both have these. A row of a repeated id is not compared.

    Args:
        truth: With the columns human, second, version, weight, chosen_by, stated and unusable.
        names: Names of the two in `left_out`.
    """
    output, truth_name = names
    ours, theirs, distinct = _numbered(scored, truth)
    levels = level_counts(scored)
    task = scored.task.code
    highest = np.append(levels, 0)[task]
    with undefined():
        odd = (scored.machine < 0) | (scored.machine >= highest)
    has_score = ~np.isnan(scored.machine) & ~odd
    listed = ours >= 0
    usable = ~np.isnan(truth.human)
    # The place after the last stands for what the truth does not have.
    place = np.full(distinct + 1, -1)
    place[theirs[usable]] = np.flatnonzero(usable)
    place = place[ours]
    times = np.bincount(ours[listed], minlength=distinct + 1)
    repeated = listed & (times > 1)[ours]
    unclear = (np.bincount(theirs[usable], minlength=distinct + 1) > 1)[ours]
    both = has_score & (place >= 0) & ~repeated & ~unclear
    level, off = _given(truth.human, both, place, highest)
    _, off_second = _given(truth.second, both, place, highest)
    statuses = enumerate(scored.status.values)
    routes = _routes(scored, has_score)
    sampled, weight, others = _as_sample(scored, truth, place, both & ~off, routes)
    reasons = {f"have no score: {name}": scored.status.code == code for code, name in statuses if name != "OK"}
    reasons |= {
        f"have no whole level in {output}": np.isnan(scored.machine) & scored.status.among(["OK", ""]),
        f"have a level in {output} that is off the task's scale, or no task": odd,
        f"are scored and not in {truth_name}": has_score & ~listed,
        f"are in {output} with an id that is there several times": has_score & repeated,
        f"are scored and in {truth_name} several times": has_score & unclear,
        f"have a level in {truth_name} that is off the task's scale": off,
        "have a second level off the task's scale, and count without it": off_second,
        **others,
    }
    absent = {f"are in {truth_name} and not in {output}": times[theirs] == 0}
    unusable = has_score & listed & np.isin(ours, theirs[truth.unusable])
    kept = np.flatnonzero(sampled)
    left_out = (
        scored.counting(reasons).left_out,
        replace(truth, left_out={}).counting(absent).left_out,
        truth.left_out,
    )
    rows = _side_by_side(scored, truth, kept, place[kept])
    routed = _routed_only(scored, rows)
    to_people = rows.to_people
    rows = rows.plus(
        weight=weight[kept],
        second=np.where(off_second[kept], np.nan, rows.second),
        kept=np.where(routed[rows.task.code], np.nan, ~to_people) if to_people.any() else np.full(len(kept), np.nan),
    )
    return Matched(
        rows=rows.noting(*left_out),
        output=kept,
        levels=levels,
        routes=routes,
        sizes=np.bincount(task[has_score], minlength=len(levels)),
        off_scale=(task[off], level[off]),
        dropped=np.bincount(np.append(task[off], task[unusable]), minlength=len(levels)),
        population=_population(rows, routed),
    )


def _side_by_side(scored: Rows, truth: Rows, ours: Ints, theirs: Ints) -> Rows:
    """Return pairs of rows as rows of both. A column that both have is that of the output."""
    rows = replace(scored, left_out={}).where(ours)
    known = truth.only(truth.columns.keys() - scored.columns.keys()).where(theirs)
    return rows.plus(**known.columns, weight_read=truth.weight[theirs])


def _given(column: Floats, both: Mask, place: Ints, highest: Ints32) -> tuple[Floats, Mask]:
    """Return a human's level of rows that have one in both files, and which of them are off the task's scale."""
    given = np.where(both, np.append(column, np.nan)[place], np.nan)
    return given, (given > highest - 1) | (given < 0)


def _as_sample(
    scored: Rows, truth: Rows, place: Ints, both: Mask, routes: Floats | None
) -> tuple[Mask, Floats, dict[str, Mask]]:
    """Return which rows are a sample of their tasks, their weights, and why others are not.

    Args:
        place: Of each row in the truth.
        both: Which rows have both levels.
    """
    task = scored.task.code
    weight = np.append(truth.weight, np.nan)[place]
    beside = np.zeros(len(task), bool)
    beside[both] = routed_beside(truth.where(place[both]).plus(task=scored.task.take(both)))
    usable = both & ~beside
    reasons = {rules.SENT_TO_PEOPLE: beside}
    if routes is not None:
        people = scored.to_people[usable]
        stated = truth.stated[place[usable]]
        weight[usable], shares = to_routes(task[usable], people, weight[usable], stated, routes)
        strange = usable & np.isin(task, list(shares))
        usable &= ~strange
        of_tasks = "; ".join(f"{scored.task.values[code]} {share}" for code, share in shares.items())
        no_sample = f"does not say how rows were chosen (chosen_by) and is not a sample: sent to people {of_tasks}"
        reasons[f"are of tasks whose truth {no_sample}"] = strange
    return usable, weight, reasons


def _routed_only(scored: Rows, compared: Rows) -> Mask:
    """Return of which tasks the machine keeps rows for which no row stands that people read."""

    def with_some(rows: Rows, mask: Mask) -> Mask:
        codes = rows.task.code[mask & (rows.task.code >= 0)]
        return np.bincount(codes, minlength=len(rows.task.values)) > 0

    kept = with_some(scored, ~np.isnan(scored.machine) & ~scored.to_people)
    stand_for_kept = chosen(compared, SAMPLE) | (chosen(compared, READ_BEHIND) & ~compared.to_people)
    return kept & with_some(compared, chosen(compared, ROUTE)) & ~with_some(compared, stand_for_kept)


def _routes(scored: Rows, has_score: Mask) -> Floats | None:
    """Return `Matched.routes`."""
    people = scored.to_people[has_score]
    if not people.any():
        return None
    place = np.where(people, 1, 0) + 2 * scored.task.code[has_score].astype(np.int64)
    return by_cell(place, np.ones(len(place)), 2 * len(scored.task.values)).reshape(-1, 2)


def _population(rows: Rows, routed: Mask) -> str:
    """Return `Matched.population`. routed: see `_routed_only`."""
    used = np.unique(rows.task.code)
    names = [rows.task.values[code] for code in used if routed[code]]
    population = population_of(names, len(names) < len(used), bool((rows.weight != 1).any()))
    heavy = heavy_rows(rows.id, rows.task.code, rows.task.values, rows.weight)
    return " ".join(filter(None, (population, heavy)))


def _numbered(scored: Rows, truth: Rows) -> tuple[Ints32, Ints32, int]:
    """Return a number for the key of each row, in both files, and how many numbers there are."""
    both = [name for name in ("task", "administration") if name in scored and name in truth]
    ours, theirs = (
        pc.binary_join_element_wise(
            *(pc.fill_null(column, "") for column in (rows.id, *(arrow_texts(rows[name]) for name in both))), "\x1f"
        )
        for rows in (scored, truth)
    )
    numbers, places, distinct = numbered(theirs, ours)
    return places, numbers, distinct
