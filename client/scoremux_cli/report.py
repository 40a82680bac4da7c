"""`scoremux report`: the acceptance report of scored rows with known levels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from scoremux_cli.evaluate import Criteria, Groups, Scored, Second, Student, Truth


def report(
    scored: Scored,
    truth: Truth,
    out: Annotated[Path, typer.Option("--out", help="HTML file; .json and .parquet files are written beside it.")],
    second: Second = None,
    groups: Groups = None,
    student: Student = None,
    criteria: Criteria = None,
    policy: Annotated[
        Path | None, typer.Option("--policy", help="TOML file of `scoremux calibrate`: says what more rows would do.")
    ] = None,
    title: Annotated[str, typer.Option(help="The page's heading.")] = "Agreement of machine and human",
) -> None:
    """Write a page with a verdict for each task, and everything that it rests on.

    Example: scoremux report scored --truth labelled.csv --out report.html
    """
    from scoremux_assess.report import Inputs, write_report
    from scoremux_client.errors import InputError

    if out.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"{out}: a report is an .html file")
    write_report(Inputs(scored, truth, second, tuple(groups or ()), student, criteria, policy), out, title)
    Console().print(f"written to {out}", soft_wrap=True, highlight=False)
