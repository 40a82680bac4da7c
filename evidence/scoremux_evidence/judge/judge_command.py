"""`scoremux judge`: rows of an audit log, computed again in float64."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from scoremux_client.audit_lines import CANARY_TEXT, text_digest
from scoremux_engine.commands.options import JsonOption, open_backbone
from scoremux_engine.commands.printing import short, show_json, show_table
from scoremux_engine.store.store import Store
from scoremux_files.rows.row_layout import column_names

if TYPE_CHECKING:
    from scoremux_engine.model.backbone import Backbone
    from scoremux_evidence.judge.judged_rows import JudgedRow
    from scoremux_evidence.judge.logged_rows import IdentifiedText, LoggedRow

_SHOWN = 10


@dataclass
class Tally:
    """Rows that were not judged, by reason; damaged: faults of packages.

    Canaries count for nothing, nor do rows that were not drawn.
    """

    other_backbone: int = 0
    without_text: int = 0
    without_version: int = 0
    without_score: int = 0
    of_damaged: int = 0
    damaged: list[str] = field(default_factory=list)

    @property
    def unjudged(self) -> int:
        """Scored rows that nothing here can compute, but for those of packages that were changed."""
        return self.other_backbone + self.without_version + self.without_text

    def sentences(self) -> list[str]:
        reasons = (
            (self.other_backbone, "were scored on another backbone"),
            (self.without_text, "have texts that --responses does not hold (or another key)"),
            (self.without_version, "are of versions that the store does not have"),
            (self.without_score, "have no score"),
            (self.of_damaged, "are of packages that were changed"),
        )
        counts = [f"{count:,} rows {reason}; they were not judged." for count, reason in reasons if count]
        return [*counts, *(f"Not judged: {reason}." for reason in self.damaged)]


def judge(
    logs: Annotated[list[Path], Argument(help="Audit logs that servers wrote (--set audit_log=FILE).")],
    *,
    responses: Annotated[list[Path], Option("--responses", help="Files with the responses' texts.")],
    repository: Annotated[Path, Option("--repository", help="Folder with backbone/ and store/.")],
    rows: Annotated[int, Option(min=1, help="How many rows to judge, drawn at random.")] = 1000,
    seed: Annotated[int, Option(help="Seed of the draw.")] = 0,
    arithmetic: Annotated[
        list[str] | None, Option(help="What the servers ran, if not float32 alone, such as x86-int8.")
    ] = None,
    key_file: Annotated[Path | None, Option(help="The key of the log's digests (audit_key_file).")] = None,
    column: Annotated[
        list[str] | None,
        Option("--column", metavar="KEY=NAME", help="How --responses call the columns id and text; repeatable."),
    ] = None,
    allow_unjudged: Annotated[
        int, Option(min=0, help="How many rows may be of a text, backbone or version that is not here.")
    ] = 0,
    out: Annotated[Path | None, Option(help="File (.jsonl) with one line per judged row.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Compute logged scores again in float64, and say which of them stand.

    A row is the "same" where its logits are within a tolerance of float64's, and its level is float64's. It is "close"
    where its two likeliest levels are no further apart than that: another arithmetic may give it the other one. A row
    that is further from float64, or whose level differs though it is not close, is "contradicted": something else was
    computed than the log says. The tolerance, of a difference of two logits, is 0.0002. It is 1 for rows in bfloat16
    and int8 whose arithmetic --arithmetic names.

    The exit status is 1 where a row is contradicted, where a version's package was changed, and where more rows than
    --allow-unjudged are of a text, backbone or version that is not here. Canaries do not count.

    Example: scoremux judge audit.log --responses responses.jsonl --repository repo
    """
    from scoremux_evidence.judge.judged_rows import Standing
    from scoremux_evidence.judge.logged_rows import draw, find_texts, read_texts
    from scoremux_files.digests import read_key

    columns = column_names(
        column,
        responses[0],
        id="id",
        text="text",
    ).values()
    key = read_key(key_file) if key_file else None
    backbone = open_backbone(repository / "store", None)
    tally = Tally()
    digests = {digest for digest, _ in read_texts(responses, key, *columns)}
    store = Store(repository / "store")
    canary = text_digest(CANARY_TEXT.encode(), key)
    drawn = draw(_candidates(logs, backbone, store, digests, canary, tally), rows, seed)
    texts = find_texts(responses, {row.digest for row in drawn}, key, *columns)
    judged = list(_judge(drawn, texts, store, backbone, tally, arithmetic or ()))
    if out is not None:
        _write(out, judged)
    contradicted = [row for row in judged if row.standing is Standing.CONTRADICTED]
    summary = _summary(judged, _candidates(logs, backbone, store, digests, canary, Tally()))
    if as_json:
        show_json(
            {
                "arithmetics": summary,
                "not_judged": vars(tally),
                "contradicted": [r.id for r in contradicted],
            }
        )
    else:
        _show(summary, contradicted, tally)
    if contradicted or tally.damaged or not judged or tally.unjudged > allow_unjudged:
        raise typer.Exit(1)


def _candidates(
    logs: list[Path], backbone: Backbone, store: Store, digests: set[str], canary: str, tally: Tally
) -> Iterator[LoggedRow]:
    """Yield the rows of logs of this backbone, one of these texts and a version of the store; count the others.

    Most lines of a long log are canaries or of other administrations: no draw is spent on them.
    """
    from scoremux_evidence.judge.logged_rows import read_log

    is_stored = cache(lambda version: store.package_folder(version).is_dir())
    for row in read_log(logs):
        if row is None:
            tally.without_score += 1
        elif row.backbone != backbone.spec.digest:
            tally.other_backbone += 1
        elif row.digest not in digests:
            tally.without_text += row.digest != canary
        elif not is_stored(row.version):
            tally.without_version += 1
        else:
            yield row


def _judge(
    drawn: Sequence[LoggedRow],
    texts: Mapping[str, IdentifiedText],
    store: Store,
    backbone: Backbone,
    tally: Tally,
    ran: Collection[str],
) -> Iterator[JudgedRow]:
    """Yield the judged rows; name packages that were changed. ran: arithmetics of the servers, see `tolerance`."""
    from scoremux_engine.errors import PackageError
    from scoremux_evidence.judge.float64_runner import Float64Scorer
    from scoremux_evidence.judge.judged_rows import judge_row

    scorer = Float64Scorer(backbone, store)
    by_version: dict[str, list[LoggedRow]] = {}
    for row in drawn:
        by_version.setdefault(row.version, []).append(row)
    for digest, of_version in by_version.items():
        try:
            version = scorer.version(digest)
        except PackageError as error:
            tally.damaged.append(str(error))
            tally.of_damaged += len(of_version)
            continue
        for row in of_version:
            response = texts[row.digest]
            logits = scorer.logits(version, response.text)
            yield judge_row(row, response.id, logits, version.task.levels, ran)


def _summary(judged: Sequence[JudgedRow], logged: Iterable[LoggedRow]) -> dict[str, dict[str, Any]]:
    """Return the counts of each arithmetic; logged: all rows that could have been drawn."""
    from scoremux_evidence.judge.judged_rows import Standing

    limits = {row.row.arithmetic: row.limit for row in judged}
    counts = Counter((row.arithmetic, row.margin <= limits.get(row.arithmetic, 0.0)) for row in logged)
    summary = {}
    for name, limit in sorted(limits.items()):
        rows = [row for row in judged if row.row.arithmetic == name]
        words = Counter(row.standing for row in rows)
        summary[name] = {
            "judged": len(rows),
            **{standing.name.lower(): words[standing] for standing in Standing},
            "largest_difference": max(row.difference or 0.0 for row in rows),
            "tolerance": limit,
            "logged": counts[name, False] + counts[name, True],
            "logged_close": counts[name, True],
        }
    return summary


def _show(
    summary: dict[str, dict[str, Any]],
    contradicted: Sequence[JudgedRow],
    tally: Tally,
) -> None:
    columns = ("Arithmetic", "Judged", "Same", "Close", "Contradicted", "Largest Δ", "Tolerance", "In the log")
    table = [
        (
            name,
            *(f"{row[word]:,}" for word in ("judged", "same", "close", "contradicted")),
            f"{row['largest_difference']:.1e}",
            f"{row['tolerance']:.1e}",
            f"{row['logged']:,}, {row['logged_close']:,} close",
        )
        for name, row in summary.items()
    ]
    largest = "Largest Δ: of differences between two logits, measured from float64 on the judged rows."
    show_table(columns, table, notes=[largest, *tally.sentences()])
    if contradicted:
        lines = [
            (
                row.id,
                row.row.task,
                short(row.row.version),
                str(row.row.level),
                str(row.level),
                f"{row.margin:.2e}",
            )
            for row in contradicted[:_SHOWN]
        ]
        show_table(
            ("Response", "Task", "Version", "Logged", "Judge", "Margin"),
            lines,
            title="Contradicted",
        )


def _write(path: Path, judged: Sequence[JudgedRow]) -> None:
    from scoremux_files.atomic import replace_file
    from scoremux_files.errors import writing

    lines = (
        {
            "id": row.id,
            "task": row.row.task,
            "version": row.row.version,
            "arithmetic": row.row.arithmetic,
            "logged": row.row.level,
            "level": row.level,
            "logits": list(row.logits),
            "margin": row.margin,
            "verdict": row.standing.value,
        }
        for row in judged
    )
    with writing(path):
        replace_file(path, (f"{json.dumps(line)}\n".encode() for line in lines))
