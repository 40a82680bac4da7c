"""Which rows count: one function for each reason to leave rows out. A command is a list of these rules and a figure.

A rule returns the rows that it finds, bool [B], by the sentence that says why. Sentences follow "N rows …".
"""

from collections.abc import Collection, Sequence
from datetime import date

import numpy as np

from scoremux_decide.conditions.finder import Finder
from scoremux_evidence.rows.table import Floats, Mask, Rows, by_reason
from scoremux_evidence.rows.trained_rows import TrainedVersions
from scoremux_evidence.rows.weighing import routed_beside
from scoremux_files.errors import InputError
from scoremux_files.rows.readers import same_text as same_text_of

TRAINING = ("train", "training")
"""Values of the column `split`, beside none, whose rows are trained on."""

Found = dict[str, Mask]
_SUM_WITHIN = 1e-3
_MOST_TRAINED = 0.5
"""The greatest share of rows with a trained text of which figures are made."""


SAME_TEXT = "have a text that the adapter was trained on, under another id, and count"
RELABELLED = "have another level in the predictions than in the files, which counts"
TRAINED_ON = (
    "were trained on by the adapter that scored them; take its out-of-fold predictions, the predictions.parquet of "
    "`scoremux train`"
)
NO_PERSON = "have no level of a person"
NO_NUMBER = "have a person's level that is not a number"
NO_LEVEL = "have points of no level of their task, as far as is known"
NO_SECOND = "have a second level that is not a number, or points that no level has, and count without it"
NOT_A_SAMPLE = "are validity papers or have no probability, and stand for no other rows"
SENT_TO_PEOPLE = "were sent to people, beside a sample of all responses"
OTHER_SCALE = "were read when their task had another number of levels"


def learned(rows: Rows, trained: TrainedVersions, counts: Mask) -> Found:
    """Rows that the adapter learned, of which its level says nothing, and rows that count whose text it learned.

    A row with a prediction is neither: another adapter made the prediction, and did not learn the row.

    Args:
        counts: Which rows count if the adapter did not learn them.

    Raises:
        InputError: The adapter learned the texts of most rows that count, under other ids.
    """
    is_known, has_text = trained.find(rows)
    by_adapter = rows.probabilities == np.array(None)
    found = {TRAINED_ON: is_known & by_adapter, SAME_TEXT: has_text & ~is_known & by_adapter}
    counts = counts & ~found[TRAINED_ON]
    with_text = int((found[SAME_TEXT] & counts).sum())
    if with_text > _MOST_TRAINED * counts.sum():
        raise InputError(
            f"{with_text:,} of {counts.sum():,} rows have a text that the adapter was trained on, under another id: "
            "figures of them say nothing of other responses. Give responses that were held out, or the "
            "predictions.parquet of `scoremux train`"
        )
    return found


def not_a_sample(rows: Rows) -> Found:
    return {NOT_A_SAMPLE: np.isnan(rows.weight)}


def sent_to_people(rows: Rows) -> Found:
    """Rows that were read for their route, where the other rows of their task stand for all responses."""
    return {SENT_TO_PEOPLE: routed_beside(rows)}


def other_scale(rows: Rows, versions: Collection[str]) -> Found:
    """Rows that people read under a version with another number of levels. versions: those with another number."""
    return {OTHER_SCALE: rows.version.among(versions)}


def read_before(rows: Rows, since: str) -> Found:
    """Rows that people read before a day, YYYY-MM-DD, on which something changed, or of which nobody says when."""
    days = np.array([day_of(time) for time in (*rows.decided_at.values, "")], object)[rows.decided_at.code]
    return {
        f"were read before {since}, when their task was put on hold or --since begins": (days < since) & (days != ""),
        f"do not say when they were read (decided_at, YYYY-MM-DD), and only labels since {since} count": days == "",
    }


def day_of(time: str) -> str:
    """Return the day of a time, YYYY-MM-DD; empty where it does not begin with a day."""
    try:
        return date.fromisoformat(time[:10]).isoformat()
    except ValueError:
        return ""


def read_again(rows: Rows) -> Mask:
    """Return the readings that do not count, of readings in their order, since the same was read before.

    Of a student's responses to a task in an administration, the first counts; of equal texts that people decide as
    one, the first of a day.
    """
    again = np.zeros(len(rows), bool)
    day = np.unique(rows.day, return_inverse=True)[1]
    of_student = (rows.student.code, rows.administration.code, rows.student.code >= 0)
    of_text = (rows.decision, day, ~np.isnan(rows.decision))
    for *same, is_known in (of_student, of_text):
        places = np.flatnonzero(is_known)
        _, first = np.unique(np.stack([rows.task.code, *same])[:, places], axis=1, return_index=True)
        again[np.delete(places, first)] = True
    return again


def of_no_live_task(rows: Rows, live: Collection[str], past: Collection[str]) -> Found:
    """Rows of tasks that are not served. past: tasks that were live at some time."""
    found = {}
    for code, task in enumerate(rows.task.values):
        if task not in live:
            when = "no longer" if task in past else "not"
            found[f"are of a task that is {when} live: {task}"] = rows.task.code == code
    return found


def is_held_out(rows: Rows) -> Mask:
    """Return the rows that are not trained on, as their column `split` says."""
    training = rows.split.among(split for split in rows.split.values if split.lower() in TRAINING)
    return np.asarray((rows.split.code >= 0) & ~training)


def text_held_out(rows: Rows) -> Found:
    """Rows that are held out, and rows with the text of one."""
    held_out = is_held_out(rows)
    texts = np.array([same_text_of(text or "") for text in rows.text], object)
    return {
        "are held out": held_out,
        "have the text of a row that is held out": np.isin(texts, texts[held_out]) & ~held_out,
    }


def of_no_task(rows: Rows, tasks: Collection[str]) -> Found:
    """Rows of tasks that a file of tasks does not have."""
    return {"are of a task that is not in the file of tasks": ~rows.task.among(tasks)}


def off_scale(rows: Rows, levels: int) -> Found:
    """Rows of one task whose level it does not have. levels: how many it has."""
    return {"have a level that is not one of their task's": ~_on_scale(rows.level, levels)}


def refuse_off_scale(rows: Rows, levels: int) -> None:
    """Raise InputError for a row of one task whose levels or probabilities are not those of its task."""
    for name in ("level", "second"):
        wrong = ~_on_scale(rows[name], levels) & (~np.isnan(rows[name]) | (name == "level"))
        if wrong.any():
            row = int(wrong.argmax())
            task = rows.task.texts()[row]
            given = f"level {rows[name][row]:g}, but {task} has levels 0 to {levels - 1}"
            raise InputError(f"{rows.place(row)}: {given}")
    for row, shares in enumerate(rows.probabilities):
        if shares is not None and len(shares) != levels:
            task = rows.task.texts()[row]
            raise InputError(f"{rows.place(row)}: {len(shares)} probabilities, but {task} has {levels} levels")
        if shares is not None and not (min(shares) >= 0 and abs(sum(shares) - 1) <= _SUM_WITHIN):
            raise InputError(f"{rows.place(row)}: the probabilities are not numbers from 0 to 1 that sum to 1")


def second_off_scale(rows: Rows, levels: int) -> Found:
    """Rows of one task that count without their second level."""
    off = rows.no_second | ~(np.isnan(rows.second) | _on_scale(rows.second, levels))
    return {"have a second level that is not one of their task's, and count without it": off}


def has_condition(rows: Rows, finder: Finder) -> Found:
    """Rows of one task whose text has a condition: no machine keeps them."""
    conditions = [None if text is None else finder.find(text) for text in rows.text]
    found = by_reason([f"have the condition {condition.code}" if condition else "" for condition in conditions])
    return dict(sorted(found.items()))


def is_undecided(rows: Rows) -> Found:
    """Rows that the desk's final scores say have no level. A person's level counts whatever status the machine gave."""
    return {"have no level, as their status says": rows.status.among(["CONDITION", "PENDING", "ODD"])}


def without_level(rows: Rows) -> Found:
    """Rows without a level that can be compared."""
    found = {**is_undecided(rows), NO_NUMBER: rows.no_number, NO_LEVEL: rows.no_level}
    is_blank = np.isnan(rows.level) & np.isnan(rows.score)
    return {**found, NO_PERSON: is_blank & ~np.logical_or.reduce([*found.values()])}


def without_group(rows: Rows, student: str, groups: Sequence[str]) -> Found:
    """Rows that count for no student or no group of a column."""
    found = {f"have no {student}, and each counts by itself": rows.student.code < 0} if student else {}
    return found | {f"have no {g}, and count for none of its groups": rows[f"group {g}"].code < 0 for g in groups}


def _on_scale(levels: Floats, count: int) -> Mask:
    return np.asarray((levels >= 0) & (levels < count) & (levels == np.floor(levels)))
