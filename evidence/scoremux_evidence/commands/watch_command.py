"""`scoremux watch`: whether promises still hold, from the rows that people read behind the machine."""

from __future__ import annotations

import json
from datetime import date, timedelta
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from scoremux_files.errors import InputError

if TYPE_CHECKING:
    from scoremux_decide.decision import Decision


ALARM_STATUS = 4


def watch(
    final: Annotated[Path, Argument(help="What `scoremux review export --out` wrote.")],
    tasks: Annotated[Path, Option(help="The store of tasks, REPO/store.")],
    policy: Annotated[Path | None, Option(help="TOML file of `scoremux calibrate`, with the table \\[watch].")] = None,
    papers: Annotated[Path | None, Argument(help="What `scoremux review export --papers` wrote.")] = None,
    out: Annotated[
        Path | None,
        Option(
            help="HTML page to write; beside it the same as .json, for `scoremux tasks hold --from` and `score "
            "--read-behind`.",
        ),
    ] = None,
) -> None:
    """Test promises on read-behind rows; run it each morning. Everything is computed again from the files.

    A column `cluster` says which rows belong together, such as a class or a school; columns.toml beside FINAL may name
    another one. An alarm in the JSON file of the last run stays until the task is on hold or calibrated again. The exit
    status is 4 where a task has an alarm and is not on hold.

    Example: scoremux watch final.parquet papers.parquet --tasks REPO/store --policy policy.toml --out today.html
    """
    from scoremux_decide.policy import WatchPolicy, read_policy
    from scoremux_evidence.rows.trained_rows import packages_of
    from scoremux_evidence.show import write_page
    from scoremux_evidence.show.figure_tables import write_json
    from scoremux_evidence.watch import watch_view as view
    from scoremux_evidence.watch.findings import find, find_shifts, keep_alarms, planned_reads
    from scoremux_evidence.watch.watched_rows import read_papers, read_watched
    from scoremux_files.rows.row_layout import column_names

    if out and out.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"{out}: the page is an .html file")
    rules = read_policy(policy).watch if policy else WatchPolicy()
    packages = packages_of(tasks)
    today = date.today()
    days_ago = [(today - timedelta(days=days)).isoformat() for days in (rules.late_days, 28)]
    cluster = column_names(None, final, cluster="cluster")["cluster"]
    watched = read_watched(final, lru_cache(None)(lambda digest: _decision(packages, digest)), days_ago[0], cluster)
    if not watched:
        raise InputError(f"there are no rows in {final}")
    readings = read_papers(papers, days_ago[1]) if papers else {}
    findings = find(watched, rules, today.isoformat(), readings)
    if out:
        keep_alarms(findings, watched, _last_alarms(out.with_suffix(".json")))
    morning = view.Morning(
        tasks=[task for task in watched if not task.is_total],
        findings=findings,
        shifts=find_shifts(watched, rules, today.isoformat()),
        drawn=planned_reads(findings, rules),
        rules=rules,
        today=today.isoformat(),
        store=str(tasks),
    )
    values = view.page_values(morning)
    if out:
        named = {"title": f"Promises on {today}", "source": final.name, "version": version("scoremux")}
        figures = view.as_json(morning)
        write_page(out, "scoremux_evidence.watch", "morning.html", figures | values | named)
        write_json(out.with_suffix(".json"), figures)
    print(values["summary"])
    for alarm in values["alarms"]:
        print(f"{alarm['task']}: {alarm['words']}")
    if any(finding.since and not finding.is_held for finding in findings):
        raise typer.Exit(ALARM_STATUS)


def _last_alarms(path: Path) -> dict[tuple[str, str, str], str]:
    """Return the days of the alarms that the last run wrote, by task, version and promise."""
    if not path.exists():
        return {}
    try:
        lines = json.loads(path.read_bytes())["promises"]
        return {(line["task"], line["version"], line["promise"]): str(line["alarm_since"] or "") for line in lines}
    except (ValueError, LookupError, TypeError, RecursionError):
        raise InputError(
            f"{path} is not what `scoremux watch` writes: move it, or name another page with --out"
        ) from None


def _decision(packages: Path, digest: str) -> Decision | None:
    from scoremux_decide.decision import Decision

    path = packages / digest / "decision.json"
    return Decision.parse(path.read_bytes(), str(path)) if path.is_file() else None
