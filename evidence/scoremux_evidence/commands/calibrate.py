"""`scoremux calibrate`: labelled responses and a policy → new versions of tasks, each with a `decision.json`."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from scoremux_client.errors import InputError
from scoremux_engine.commands.options import DryRunOption, JsonOption
from scoremux_files.rows.row_layout import LABELS_HELP


def calibrate(
    labelled: Annotated[
        list[Path] | None, Argument(help="Files (.jsonl, .csv, .parquet) with id, task, text and level.")
    ] = None,
    *,
    repository: Annotated[Path, Option(help="Folder with backbone/ and store/.")],
    policy: Annotated[Path, Option(help="The programme's rules, a TOML file.")],
    predictions: Annotated[Path | None, Option(help="Out-of-fold predictions that `scoremux train` wrote.")] = None,
    column: Annotated[
        list[str] | None,
        Option(
            metavar="KEY=NAME",
            help=f"{LABELS_HELP}, task, text, level, score (points, for rows without a level), second (another human's "
            "level or points) or student (whose rows belong together).",
        ),
    ] = None,
    since: Annotated[
        datetime | None,
        Option(
            formats=["%Y-%m-%d"],
            help="Use only labels that people gave on this day or later (column decided_at). By default the day of a "
            "task's last hold; a task without one takes all labels.",
        ),
    ] = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Fit confidences, thresholds and conditions, and publish new versions of all tasks at once, or of none.

    Rows are scored as `scoremux serve` does: as REPOSITORY/profile.toml says, else in OpenVINO's float32.

    Example: scoremux calibrate heldout.csv --repository repo --policy policy.toml
    """
    from scoremux_decide.policy import read_policy
    from scoremux_engine.engine import Engine
    from scoremux_engine.packages.package_files import PackageFiles
    from scoremux_engine.store.store import Store
    from scoremux_evidence.promise import calibration_view
    from scoremux_evidence.promise.calibration import calibrate_tasks, publish
    from scoremux_evidence.rows.label_columns import label_columns
    from scoremux_evidence.rows.predicted import read_labelled
    from scoremux_evidence.rows.trained_rows import packages_of

    rules = read_policy(policy)
    columns = label_columns(column, "level", "score", "second", "rater", data=labelled[0] if labelled else None)
    packages_of(repository / "store")  # refuses a store that may lack packages
    store = Store(repository / "store")
    live = store.manifest().tasks if columns.score or columns.traits else {}
    tasks = [PackageFiles(store.package_folder(version)).task for version in live.values()]
    scales = {name: levels for task in tasks for name, levels in task.scales.items()}
    rows = read_labelled(labelled or [], predictions, columns, scales)
    if not len(rows):
        why = next((f"{places[0]}: {reason}" for reason, places in rows.left_out.items()), "")
        raise InputError(f"no labelled rows: {why or 'name files of them, or --predictions'}")
    engine = Engine.open(repository)
    calibration = calibrate_tasks(engine, store, rules, rows, since=since.date() if since else None)
    changes = publish(engine, store, calibration, dry_run=dry_run)
    after = {change.task: change.after for change in changes}
    versions = {name: after.get(of.item[0] if of.item else name) for name, of in calibration.rows.tasks.items()}
    calibration_view.show(calibration, versions, predictions, dry_run=dry_run, as_json=as_json)
