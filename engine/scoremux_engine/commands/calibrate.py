"""`scoremux calibrate`: labelled responses and a policy → new versions of tasks, each with a `decision.json`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from scoremux_client.errors import InputError
from scoremux_engine.commands.options import DryRunOption, JsonOption
from scoremux_engine.commands.output import short, show_json, show_table

if TYPE_CHECKING:
    from scoremux_engine.commands.calibrating import Calibrated, LabelledRow
    from scoremux_engine.store.history import Change


def calibrate(
    labelled: Annotated[
        list[Path] | None, typer.Argument(help="Files (.jsonl, .csv, .parquet) with id, task, text and level.")
    ] = None,
    *,
    repository: Annotated[Path, typer.Option("--repository", help="Folder with backbone/ and store/.")],
    policy: Annotated[Path, typer.Option("--policy", help="The programme's rules, a TOML file.")],
    predictions: Annotated[
        Path | None, typer.Option("--predictions", help="Out-of-fold predictions that `scoremux train` wrote.")
    ] = None,
    id_column: Annotated[str, typer.Option(help="Column of the rows' ids.")] = "id",
    task_column: Annotated[str, typer.Option(help="Column of task ids.")] = "task",
    text_column: Annotated[str, typer.Option(help="Column of the responses' texts.")] = "text",
    level_column: Annotated[str, typer.Option(help="Column of the levels that humans gave.")] = "level",
    second_column: Annotated[
        str, typer.Option(help="Column of a second human's levels, where there is one.")
    ] = "second",
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Fit confidences, thresholds and conditions, and publish new versions of all tasks at once, or of none.

    Example: scoremux calibrate heldout.csv --repository repo --policy policy.toml
    """
    from scoremux_assess.decisions.policy import read_policy
    from scoremux_engine.commands.calibrating import calibrate as fit_all
    from scoremux_engine.commands.calibrating import publish
    from scoremux_engine.engine import Engine
    from scoremux_engine.store.store import Store

    if not labelled and predictions is None:
        raise InputError("there are no labelled rows: name files of them, or --predictions")
    chosen = read_policy(policy)
    columns = (id_column, task_column, text_column, level_column, second_column)
    rows = list(gather(labelled or [], predictions, columns))
    store = Store(repository / "store")
    engine = Engine.open(repository)
    made = fit_all(engine, store, chosen, rows)
    changes = publish(engine, store, made, dry_run=dry_run)
    if as_json:
        show_json({"policy": chosen.digest, "dry_run": dry_run, "tasks": _as_json(made, changes)})
        return
    _show(made, changes, dry_run)
    _say(made, predictions, dry_run)


def gather(files: Sequence[Path], predictions: Path | None, columns: Sequence[str]) -> Iterator[LabelledRow]:
    """Yield the labelled rows of files and predictions; a row of a file that training knew has its prediction.

    Args:
        files: Labelled responses.
        predictions: What training said of rows that it held out, None for none.
        columns: Names of the columns of id, task, text, level and second level.

    Raises:
        InputError: A row cannot be used, or one is there twice.
    """
    from dataclasses import replace

    known = {(row.task, row.id): row for row in _predicted(predictions)} if predictions else {}
    seen: set[tuple[str, str]] = set()
    for path in files:
        for row in _read(path, columns):
            key = row.task, row.id
            if key in seen:
                raise InputError(f"{row.where}: id {row.id[:80]!r} of {row.task} is there twice")
            seen.add(key)
            predicted = known.pop(key, None)
            yield replace(predicted, text=row.text) if predicted else row
    yield from known.values()


def _read(path: Path, columns: Sequence[str]) -> Iterator[LabelledRow]:
    from scoremux_engine.commands.calibrating import LabelledRow
    from scoremux_files.rows.readers import read_rows, whole_number

    id_column, task_column, text_column, level_column, second_column = columns
    for number, row in enumerate(read_rows(path), start=1):
        where = f"{path}, row {number}"
        for name in (id_column, task_column, text_column, level_column):
            if row.get(name) is None:
                raise InputError(f"{where}: no {name}")
        level, second = whole_number(path, number, row[level_column]), row.get(second_column)
        also = None if second in (None, "") else whole_number(path, number, second)
        yield LabelledRow(str(row[id_column]), str(row[task_column]), level, also, where, text=str(row[text_column]))


def _predicted(path: Path) -> Iterator[LabelledRow]:
    from scoremux_engine.commands.calibrating import LabelledRow
    from scoremux_files.rows.readers import read_rows, whole_number

    for number, row in enumerate(read_rows(path), start=1):
        where = f"{path}, row {number}"
        if not {"id", "task", "level", "probabilities"} <= row.keys():
            raise InputError(f"{where}: not what `scoremux train` writes; id, task, level, probabilities needed")
        second = row.get("second_level")
        also = None if second is None else whole_number(path, number, second)
        level = whole_number(path, number, row["level"])
        given = row["probabilities"]
        if not isinstance(given, (list, tuple)) or not all(type(p) in (int, float) for p in given):
            raise InputError(f"{where}: probabilities is not a list of numbers")
        yield LabelledRow(str(row["id"]), str(row["task"]), level, also, where, probabilities=tuple(given))


def _as_json(made: Calibrated, changes: Sequence[Change]) -> list[dict[str, Any]]:
    import json

    after = {change.task: change.after for change in changes}
    skipped = ("conditions", "unusual", "policy")
    found = []
    for task, decision in made.decisions.items():
        said = {key: value for key, value in json.loads(decision.to_json()).items() if key not in skipped}
        found.append({"task": task, "rows": made.rows[task], "version": after.get(task), **said})
    return found


def _show(made: Calibrated, changes: Sequence[Change], dry_run: bool) -> None:
    after = {change.task: change.after for change in changes}
    rows = []
    for task, one in made.decisions.items():
        temperature, threshold, levels = one.temperature, one.threshold, one.level_range
        cells = [task, str(made.rows[task]), f"{temperature.value:.2f}" if temperature else "–"]
        if threshold is None:
            cells += ["–"] * 4
        else:
            promised = [f"exact ≥ {threshold.exact:.3g}"] if threshold.exact is not None else []
            promised += [f"critical ≤ {threshold.critical:.3g}"] if threshold.critical is not None else []
            least = threshold.reason if threshold.least is None else f"{threshold.least:.3f}"
            said = f"{', '.join(promised)} at {threshold.confidence:.0%}" if promised else "none"
            cells += [
                least,
                f"{threshold.share:.0%}",
                said if threshold.least is not None else "all to people",
                threshold.source,
            ]
        width = f"{levels.width:.1f} at {levels.confidence:.0%}" if levels else "–"
        rows.append([*cells, width, short(after.get(task))])
    columns = ("task", "rows", "temperature", "threshold", "to people", "promise", "chosen on", "levels", "version")
    title = f"{len(rows)} tasks {'would be' if dry_run else 'are'} calibrated"
    show_table(columns, rows, title=title)


def _say(made: Calibrated, predictions: Path | None, dry_run: bool) -> None:
    say = Console(markup=False, highlight=False, soft_wrap=True).print
    if made.out_of_fold:
        condition = "true only if the live versions come from the same training"
        say(f"{made.out_of_fold:,} rows have out-of-fold predictions, from {predictions}: {condition}")
    if made.scored:
        say(f"{made.scored:,} rows were scored by the live versions: true only if no adapter was fitted to them")
    for reason, count in sorted(made.left_out.items()):
        say(f"{count:,} rows are left out: {reason}")
    if made.unsure:
        named = ", ".join(made.unsure)
        say(f"{len(made.unsure)} tasks have no confidence; a target sends all their responses to people: {named}")
    if dry_run:
        say("nothing was published (--dry-run)")
