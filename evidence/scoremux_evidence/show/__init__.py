"""The acceptance report: one HTML page that needs nothing else, with the same figures as JSON and Parquet beside it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

from scoremux_evidence.rows.label_columns import LABEL_COLUMNS, LabelColumns
from scoremux_evidence.rows.matching import match_files
from scoremux_evidence.show.figure_tables import as_json, write_json, write_table
from scoremux_evidence.show.view import view
from scoremux_evidence.verdicts.assessment import Assessment, assess
from scoremux_evidence.verdicts.verdicts import read_criteria
from scoremux_files.atomic import replace_file
from scoremux_files.digests import file_digest, set_digest
from scoremux_files.errors import writing
from scoremux_files.rows.readers import files_of


@dataclass(frozen=True)
class ReportInputs:
    """The inputs of a report; see `match_files`, `read_criteria` and `measure_totals`."""

    output: Path
    truth: Path
    columns: LabelColumns = LABEL_COLUMNS
    criteria: Path | None = None
    tasks: Path | None = None
    cuts: Sequence[float] = ()


def write_report(inputs: ReportInputs, out: Path, title: str = "Agreement of machine and human") -> Assessment:
    """Write a report and return its figures.

    Args:
        out: The HTML file; the JSON and Parquet files beside it have its name.

    Raises:
        InputError: a file cannot be read or written, or no row has a score and a known level.
    """
    criteria = read_criteria(inputs.criteria)
    matched = match_files(inputs.output, inputs.truth, inputs.columns, inputs.tasks)
    assessed = assess(matched, criteria, inputs.cuts)
    provenance = _provenance(inputs, title)
    write_json(out.with_suffix(".json"), as_json(assessed, matched, provenance))
    write_table(out.with_suffix(".parquet"), assessed)
    values = view(assessed, matched)
    beside = {suffix: out.with_suffix(f".{suffix}").name for suffix in ("json", "parquet")}
    write_page(out, "scoremux_evidence.show", "page.html", values | provenance | beside)
    return assessed


def write_page(out: Path, package: str, template: str, values: Mapping[str, Any]) -> None:
    """Write a page from a package's template, with the head and the style sheet that all pages share.

    Raises InputError where it cannot be written.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    loader = PackageLoader("scoremux_evidence", "show")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    loaded = environment.from_string(files(package).joinpath(template).read_text("utf-8"))
    style = Markup(files("scoremux_evidence.show").joinpath("style.css").read_text("utf-8").rstrip())
    with writing(out):
        replace_file(out, [loaded.render(values, style=style).encode()], mode=None)


def _provenance(inputs: ReportInputs, title: str) -> dict[str, object]:
    """Return the report's title, date and version, and the names and digests of the files that went in."""
    paths = {"output": inputs.output, "truth": inputs.truth, "criteria": inputs.criteria}
    names = inputs.columns
    columns = {
        "points": names.score,
        "second human": names.second,
        "groups": ", ".join(names.groups),
        "student": names.student,
    }
    return {
        "title": title,
        "date": date.today().isoformat(),
        "version": version("scoremux"),
        "inputs": [
            *((name, {"words": path.name, "digest": digest(path)}) for name, path in paths.items() if path),
            *([] if inputs.criteria else [("criteria", {"words": "those that come with scoremux", "digest": ""})]),
            *((f"column of the {name}", {"words": column, "digest": ""}) for name, column in columns.items() if column),
        ],
    }


def digest(path: Path) -> str:
    """Return the sha256 of a file, or that of the digests of the parts in a folder."""
    if not path.is_dir():
        return file_digest(path)
    return set_digest({part.name: file_digest(part) for part in files_of(path)})
