"""The work of `scoremux review add`, and the lines that it prints."""

from collections.abc import Sequence
from pathlib import Path

from scoremux_desk.database import programme
from scoremux_desk.database.connection import Database
from scoremux_desk.desk_policy import DeskPolicy
from scoremux_desk.people_commands import BY, say
from scoremux_desk.reading import alerts, intake, task_files


def add_programme(desk: Database, policy: Path | None, tasks: Path | None, anchors: Path | None) -> None:
    """Add the programme's rules, tasks and anchor papers, each if it is given. Raises InputError."""
    if policy:
        rules = DeskPolicy.read(policy)
        with desk.write() as connection:
            programme.save_policy(connection, rules, BY)
    if tasks:
        _add_tasks(desk, tasks)
    if anchors:
        papers = task_files.read_anchors(anchors)
        with desk.write() as connection:
            programme.replace_anchors(connection, papers, BY)
        say(f"{anchors}: {len(papers):,} anchor papers")


def add_papers(desk: Database, **files: Path | None) -> None:
    """Add papers with a known level, files by kind. Raises InputError."""
    for kind, file in files.items():
        if file:
            say(f"{file}: {intake.add_papers(desk, file, kind, BY):,} new {kind} papers")


def _add_tasks(desk: Database, tasks: Path) -> None:
    with desk.write() as connection:
        before = programme.all_items(connection)
        say(f"{tasks}: {programme.save_items(connection, task_files.read_items(tasks), BY):,} tasks")
        for task, item in programme.all_items(connection).items():
            if task in before and before[task].is_described and before[task].levels != item.levels:
                was, is_now = (" ".join(f"{p:g}" for p in points) for points in (before[task].levels, item.levels))
                say(f"task {task}: its levels are worth {is_now} now, were {was}; exports of older rows change")


def add_scored(desk: Database, path: Path, responses: Sequence[Path], columns: Sequence[str] | None) -> None:
    """Add the output of `scoremux score`, and its alerts. Raises InputError."""
    added = intake.add_scored(desk, path, BY, responses, columns)
    say(f"{path}: {added.rows:,} rows, {added.already_there:,} known already, {added.to_read:,} to read")
    if added.rescored:
        remedy = "the desk keeps its own; to have the new ones, add this to a new database"
        say(f"{path}: {added.rescored:,} of the known rows have another score or route here; {remedy}")
    new, unknown = alerts.add_alerts(desk, path, BY)
    if new or unknown:
        say(f"{path}: {new:,} new alerts, which leaders see first; {unknown:,} are of unknown rows")
