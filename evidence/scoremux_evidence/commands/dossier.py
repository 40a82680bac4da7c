"""`scoremux dossier`: one version of a task as a folder to hand over: a page, the same as JSON, and what went in."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

from rich.console import Console
from typer import Argument, Option

from scoremux_files.digests import file_digest
from scoremux_files.errors import InputError, parsing, writing
from scoremux_files.settings import read_json
from scoremux_files.terminal import print_notes

Facts = dict[str, Any]

_ADAPTER = ("adapter_config.json", "adapter_model.safetensors", "task.json")
"""Files of a package that levels depend on: versions with the same ones give the same levels."""

STATEMENTS = {
    "provider": "who is the provider, and how to reach them",
    "supplier": "who supplies software, models or adapters to the provider",
    "agreement": "the written agreement of supplier and provider, and what it covers",
    "purpose": "what the scores are for",
    "not_for": "what the scores are not for",
    "risks": "known risks and foreseeable misuse, and what is done about them",
    "data": "where responses and labels come from, and whom they represent",
    "readers": "who reads, and how they are trained",
    "oversight": "who may hold the task or stop the servers, and when",
    "quality": "the procedures of quality management, and who answers for them",
    "monitoring": "what follows from an alarm or an incident, and who reports it",
    "logs_kept": "how long logs are kept",
}
"""What only people can say, by key of the file of --statements."""

_BLANKS = {
    "card": "known limits of the adapter (card.md, which `scoremux train` writes beside it)",
    "trained": "the rows that the adapter was trained on (trained.json, which `scoremux train` writes beside it)",
    "reports": "agreement with people (--report, on this version or on `train`'s predictions)",
    "groups": "agreement by group (a report that was written with --column group=NAME)",
    "decision": "confidences, conditions and a promise: the version has no calibration (`scoremux calibrate`)",
    "calibrated_on": "the rows that the promise was tested on (--calibration, from `scoremux calibrate --json`)",
    "in_use": "whether the promise holds in use (--watch, with the JSON file of `scoremux watch --out`)",
    "policy": "the policy of this version (--policy, with the file that `calibrate` read)",
    "changes": "the changes of the task: history.jsonl of the store has none",
    "logs": "each start's check, alarms, and how far logs go back (--audit-log, of each server)",
}
"""What else a dossier needs, and how to fill it."""


def dossier(
    task: Annotated[str, Argument(help="The id of a task, for its live version, or ID@DIGEST.")],
    store: Annotated[Path, Option(help="The store of tasks, REPO/store.")],
    out: Annotated[Path, Option(help="The folder to write, a new one.")],
    report: Annotated[
        list[Path] | None,
        Option(
            help="The JSON file beside a page of `scoremux report`: on predictions of training, on scores; repeatable."
        ),
    ] = None,
    calibration: Annotated[Path | None, Option(help="What `scoremux calibrate --json` printed.")] = None,
    watch: Annotated[Path | None, Option(help="The JSON file beside a page of `scoremux watch`.")] = None,
    policy: Annotated[Path | None, Option(help="The programme's rules, a TOML file.")] = None,
    audit_log: Annotated[list[Path] | None, Option(help="Audit log of a server; repeatable.")] = None,
    statements: Annotated[Path | None, Option(help=f"TOML file of what people say: {', '.join(STATEMENTS)}.")] = None,
) -> None:
    """Collect what is known of a version: purpose, training rows, agreement, promises, oversight, logs and changes.

    The page names the articles of the EU's AI Act that each part answers, and how to fill each blank.

    Example: scoremux dossier bio-7 --store repo/store --report report.json --statements statements.toml --out dossier
    """
    from scoremux_evidence.rows.trained_rows import packages_of
    from scoremux_files.settings import read_toml

    said = read_toml(statements) if statements else {}
    if unknown := sorted(said.keys() - STATEMENTS.keys()):
        raise InputError(f"{statements}: unknown key {unknown[0]}; the keys are {', '.join(STATEMENTS)}")
    task, _, digest = task.partition("@")
    live = read_json(store / "manifest.json").get("tasks", {}).get(task, "")
    beginning = digest or live or "-"
    found = [path for path in packages_of(store).glob(f"{beginning}*") if read_json(path / "task.json")["id"] == task]
    if len(found) != 1:
        raise InputError(f"{store} has {len(found)} versions {digest} of {task}; give the digest of one, as ID@DIGEST")
    of_package = {path.name: path for path in found[0].iterdir()}
    changes = _changes(store / "history.jsonl", task)
    is_own = _chooser(task, found[0], changes)
    reports = [_read(path, "report --out", ("tasks", "groups"), is_own) for path in report or ()]
    facts = {
        **said,
        **_of_package(of_package, policy),
        "reports": [one for one in reports if one["tasks"]],
        "calibrated_on": _read(calibration, "calibrate --json", ("tasks",), is_own)["tasks"],
        "in_use": _read(watch, "watch --out", ("promises",), is_own)["promises"],
        "changes": changes,
        "logs": [_log(path, found[0].name) for path in audit_log or ()],
    }
    facts["groups"] = any(one["groups"] for one in facts["reports"])
    asked = {key: f"{what} (`{key}` in the file of --statements)" for key, what in STATEMENTS.items()} | _BLANKS
    blanks = {key: what for key, what in asked.items() if not facts.get(key)}
    given = [*(report or ()), *filter(None, (calibration, watch, policy, statements))]
    given += [page for path in given if (page := path.with_suffix(".html")).exists()]
    given += [of_package[name] for name in ("task.json", "decision.json", "card.md") if name in of_package]
    head = {"task": task, "version": found[0].name, "is_live": found[0].name == live, "date": date.today().isoformat()}
    _write(out, given, {**head, "scoremux": version("scoremux"), "facts": facts, "blanks": blanks})
    notes = [f"not known: {what}" for what in blanks.values()]
    print_notes(Console(highlight=False, markup=False), [*notes, f"written to {out / 'dossier.html'}"])


def _write(out: Path, files: Sequence[Path], values: Facts) -> None:
    """Write the folder: the page, its values as JSON, and copies of files. Raises InputError where it exists."""
    from scoremux_evidence.show import write_page
    from scoremux_evidence.show.figure_tables import write_json

    digests = {path.name: file_digest(path) for path in files}
    if len(digests) < len(files):
        raise InputError(f"two files have the same name, and the folder has room for one: {', '.join(map(str, files))}")
    with writing(out):
        out.mkdir(parents=True)
        for path in files:
            shutil.copy(path, out)
    values = values | {"files": digests}
    write_page(out / "dossier.html", "scoremux_evidence.show", "dossier.html", values)
    write_json(out / "dossier.json", values)


def _changes(path: Path, task: str) -> list[Facts]:
    """Return the lines of a store's history that are about a task; none where it has no history."""
    lines = path.read_bytes().splitlines() if path.exists() else []
    with parsing(f"{path} is damaged; `scoremux tasks verify` says where"):
        return [change for change in map(json.loads, lines) if change["task"] == task]


def _chooser(task: str, package: Path, changes: Sequence[Facts]) -> Callable[[Facts], bool]:
    """Return what tells whether a line of another command's JSON is about the version, or about one of equal levels.

    A calibration makes a new version of the same adapter.
    """

    def adapter(digest: str) -> list[str]:
        paths = [package.with_name(digest) / name for name in _ADAPTER]
        return [file_digest(path) for path in paths if path.exists()]

    versions = {change[end] for change in changes for end in ("from", "to") if change[end]}
    alike = {package.name, *(digest for digest in versions if adapter(digest) == adapter(package.name))}

    def is_own(line: Facts) -> bool:
        named = line.get("versions", [line["version"]] if "version" in line else [])
        return f"{line['task']}.".startswith(f"{task}.") and alike.issuperset(named)

    return is_own


def _read(path: Path | None, command: str, keys: Sequence[str], is_own: Callable[[Facts], bool]) -> Facts:
    """Return the JSON that a command wrote; of its lists `keys`, the lines about the version; none without a file."""
    content = read_json(path) if path else dict.fromkeys(keys, ())
    with parsing(f"{path} is not what `scoremux {command}` writes"):
        return content | {key: [line for line in content[key] if is_own(line)] for key in keys}


def _of_package(files: Mapping[str, Path], policy: Path | None) -> Facts:
    """Return what a package says of its task, training and decision, and the policy if it is the decision's."""
    from scoremux_decide.policy import read_policy
    from scoremux_evidence.rows.trained_rows import TrainedRows

    rows = TrainedRows.read(files["trained.json"]) if "trained.json" in files else None
    decision = read_json(files["decision.json"]) if "decision.json" in files else {}
    decision.get("unusual", {}).pop("centres", None)
    rules = read_policy(policy) if policy else None
    return {
        "described": read_json(files["task.json"]),
        "card": files["card.md"].read_text(encoding="utf-8") if "card.md" in files else "",
        "trained": rows and {"rows": rows.count, "labelled": rows.labelled},
        "decision": decision,
        "policy": rules.model_dump(mode="json") if rules and rules.digest == decision.get("policy") else {},
    }


def _log(path: Path, digest: str) -> Facts:
    """Return how many lines a log has, in all and of a version, from when to when, events, and whether it is whole."""
    from scoremux_client.audit_lines import ALARMS, EVENT, read_log

    alarms = path.with_name(f"{ALARMS}{path.name}")
    found: Facts = {"name": path.name, "lines": 0, "of_version": 0, "times": [], "faults": [], "events": []}
    for line in chain(read_log(path), read_log(alarms) if alarms.exists() else ()):
        times = [*found["times"], line.values["time"]]
        found["times"] = [min(times), max(times)]
        found["lines"] += 1
        found["of_version"] += line.values["version"] == digest
        found["faults"] += [f"{line.place}: {line.fault}"] if line.fault else []
        found["events"] += [line.values] if line.values["status"] == EVENT else []
    return found
