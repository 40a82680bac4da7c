"""Commands that look at a store: `list`, `show`, `history`, `verify`."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from scoremux_client.contract import DIGEST_PATTERN
from scoremux_client.errors import InputError
from scoremux_engine.commands.options import BackboneOption, JsonOption, StoreOption, open_backbone
from scoremux_engine.commands.printing import short, show_result, show_table
from scoremux_engine.errors import PackageError
from scoremux_engine.packages.package_files import PackageFiles
from scoremux_engine.store.store import Store
from scoremux_engine.store.upkeep import verify as find_problems
from scoremux_engine.store.version_details import prefix, summarise, trace

if TYPE_CHECKING:
    from scoremux_client import Tls

Reference = Annotated[str, Argument(help="TASK, its live version, or TASK@DIGEST; the digest may be cut short.")]
UrlOption = Annotated[str | None, Option("--url", help="HOST:PORT or URL of a server: what it serves.")]


def list_tasks(
    store: Annotated[
        Path | None, Option("--store", help="Folder of the store (REPO/store); without it, ask the server.")
    ] = None,
    url: UrlOption = None,
    token: Annotated[str | None, Option(envvar="SCOREMUX_TOKEN", help="Bearer token.", show_envvar=True)] = None,
    root_certificates: Annotated[
        Path | None, Option(help="PEM file of the authorities that the server's certificate comes from.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show the live tasks of a store or of a server; with both, whether the server really serves what is live.

    Example: scoremux tasks list --store repo/store --url localhost:8001
    """
    from scoremux_client import Tls, served_tasks

    tls = Tls(root_certificates) if root_certificates else None
    if store is not None:
        opened = Store(store)
        live = opened.manifest().tasks
        _list_live(opened, live, served_versions(url, list(live), tls, token) if url else None, as_json)
    elif url is not None:
        tasks = [vars(task) for task in served_tasks(url, tls=tls, token=token)]
        cells = [(t["id"], " ".join(f"{level:g}" for level in t["levels"]), short(t["version"])) for t in tasks]
        show_result(as_json, tasks, ("task", "levels", "version"), cells, f"{len(tasks)} live tasks of {url}")
    else:
        raise InputError("give --store, --url or both")


def _list_live(store: Store, live: Mapping[str, str], served: Mapping[str, str] | None, as_json: bool) -> None:
    """Print the live tasks of a store, and what a server scores them with where that is known."""
    rows = [
        {**_description(store, task, digest), "version": digest, **({"served": served[task]} if served else {})}
        for task, digest in live.items()
    ]
    cells = [
        (
            row["id"],
            row.get("language", ""),
            " ".join(f"{level:g}" for level in row.get("levels", ())),
            row.get("problem") or " ".join(row["question"].split()),
            short(row["version"]),
            *([_compared(row["served"], row["version"])] if served else []),
        )
        for row in rows
    ]
    columns = ("task", "language", "levels", "question", "version", *(["served"] if served else []))
    show_result(as_json, rows, columns, cells, f"{len(rows)} live tasks", fold=("question",))


def _description(store: Store, task: str, digest: str) -> dict[str, Any]:
    """Return a version's description of its task, or why that cannot be read."""
    try:
        return PackageFiles(store.package_folder(digest)).task.model_dump(exclude_none=True)
    except PackageError as error:
        return {"id": task, "problem": str(error)}


def served_versions(url: str, tasks: Sequence[str], tls: "Tls | None", token: str | None) -> dict[str, str]:
    """Return each task's version on the server at `url`: a digest, or the status of a row without a score.

    It scores one empty text a task. Raises the client's TransportError.
    """
    from scoremux_client import Response, ScoringClient

    with ScoringClient(url, tls=tls, token=token) as client:
        rows = [Response(task, "") for task in tasks]
        answers = client.score(rows)
    return {answer.task: answer.version or answer.status.value for answer in answers}


def _compared(served: str, live: str) -> str:
    if served == live:
        return "the same"
    return f"{short(served)}, not the live one" if re.fullmatch(DIGEST_PATTERN, served) else served


def show(
    version: Reference,
    store: StoreOption,
    render: Annotated[
        str | None, Option("--render", help="Show what the model sees of this response, and what is cut.")
    ] = None,
    backbone: BackboneOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one version of a task: its description, its adapter, and the task's other versions in the store.

    Where its responses begin alike and a decoder computes that beginning once, also its tokens and their memory.

    Example: scoremux tasks show en-6.3-ipp --store repo/store --render "It hands out addresses."
    """
    opened = Store(store)
    task_and_digest = opened.find(version)
    if render is None:
        summary = summarise(opened, *task_and_digest)
        if "input" in summary and (backbone or (store.parent / "backbone" / "1").is_dir()):
            summary |= prefix(opened, task_and_digest[1], open_backbone(store, backbone))
    else:
        summary = trace(opened, task_and_digest[1], open_backbone(store, backbone), render)
    cells = [(key, _cell(key, value)) for key, value in summary.items()]
    show_result(as_json, summary, ("", version), cells, fold=(version,))


def _cell(key: str, value: Any) -> str:
    if key == "tokens":
        return f"{len(value)}: {' '.join(value)}"
    if isinstance(value, dict) or key in ("text", "first", "second", "cut"):
        return json.dumps(value, ensure_ascii=False)  # line breaks and the like must show
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def history(
    store: StoreOption, task: Annotated[str | None, Argument(help="Id of a task (default: all).")] = None
) -> None:
    """Show every change, newest last.

    Example: scoremux tasks history en-6.3-ipp --store REPO/store
    """
    opened = Store(store)
    opened.manifest_bytes()
    entries = opened.history.entries(task)
    rows = [
        (f"{e.when:%Y-%m-%d %H:%M:%S} UTC", e.who, e.task, e.kind, short(e.before), short(e.after)) for e in entries
    ]
    show_table(("when", "who", "task", "change", "from", "to"), rows, f"{len(rows)} changes")


def verify(
    store: StoreOption,
    backbone: Annotated[
        Path | None, Option("--backbone", help="Also check live packages in full against this backbone.")
    ] = None,
) -> None:
    """Hash every package again and check manifest, pins and history. Exit status 1 if anything is wrong.

    Example: scoremux tasks verify --store REPO/store
    """
    opened = Store(store)
    problems = list(find_problems(opened, open_backbone(store, backbone) if backbone else None))
    packages = len(opened.digests())
    columns, rows = ("where", "what is wrong"), [(p.where, p.what) for p in problems]
    show_table(columns, rows, f"{packages} packages, {len(problems)} problems", fold=columns[1:])
    if problems:
        raise typer.Exit(1)
