"""`scoremux ask`: one answer from a running server."""

import os
from pathlib import Path
from typing import Annotated

from rich.console import Console
from rich.text import Text
from typer import Argument, Option

from scoremux_client import Response, Scored, Tls
from scoremux_client.client import Client
from scoremux_client.errors import InputError
from scoremux_files.errors import first_of

_BAR = 30


def ask(
    task: Annotated[str, Argument(help="Id of the task.")],
    text: Annotated[str, Argument(help="The response.")],
    url: Annotated[
        str, Option(help="HOST:PORT of the server, or grpcs://HOST:PORT.", envvar="SCOREMUX_URL")
    ] = "localhost:8001",
    root_certificates: Annotated[
        Path | None, Option(help="PEM file of the authorities that the server's certificate comes from.")
    ] = None,
) -> None:
    """Score one response, and show how likely each level is. SCOREMUX_TOKEN has the token, where one is needed.

    Example: scoremux ask en-6.3-ipp "It hands out addresses."
    """
    token = os.environ.get("SCOREMUX_TOKEN")
    tls = Tls(root_certificates) if root_certificates else None
    with Client(url, token=token, tls=tls) as client:
        # Asked first: this is one attempt, so that a wrong address is reported at once.
        points = {served.id: served.levels for served in client.tasks()}
        if task.partition("@")[0] not in points:
            raise InputError(f"no task {task} at {url}; there are {first_of(sorted(points))}")
        [scored] = client.score([Response(task, text)])
    Console(highlight=False).print(_shown(scored, points[task.partition("@")[0]]))


def _shown(scored: Scored, points: tuple[float, ...]) -> Text:
    """Return a row's outcome in a few lines: the level, a bar for each level, and who decides."""
    shown = Text()
    if scored.ok:
        shown.append(f"level {scored.level}", "bold green").append(f", {scored.score:g} points\n")
    else:
        shown.append(f"{scored.status.value} {scored.condition}\n", "bold red")
    for level, probability in enumerate(scored.probabilities):
        style = "green" if level == scored.level else "dim"
        worth = f"{points[level]:g}" if level < len(points) else ""
        bar = "█" * round(_BAR * probability)
        shown.append(f"{level:>3} {worth:>6}  {probability:4.2f} {bar}\n", style)
    sure = "" if scored.confidence is None else f", with confidence {scored.confidence:.2f}"
    shown.append(f"decided by {scored.route or 'nobody'}{sure}")
    return shown.append(", the text was cut" if scored.truncated else "")
