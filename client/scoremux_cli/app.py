"""The command `scoremux`: finds its subcommands through the entry-point group `scoremux.commands`."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint, entry_points

import typer

from scoremux_client.errors import ScoremuxError

_EXTRA_OF = {
    "torch": "export",
    "transformers": "export",
    "peft": "export",
    "onnx": "export",
    "onnxscript": "export",
    "pytriton": "serve",
    "onnxruntime": "serve",
    "openvino": "serve",
    "nncf": "serve",
    "ml_dtypes": "serve",
    "pydantic": "serve",
    "safetensors": "serve",
    "tokenizers": "serve",
    "ray": "ray",
}


def build() -> typer.Typer:
    """Return the application with every registered subcommand."""
    app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
    app.callback()(_about)
    for entry in sorted(entry_points(group="scoremux.commands"), key=lambda e: e.name):
        _register(app, entry)
    return app


def main() -> None:
    """Run; an error of ours becomes one line on standard error and exit status 2."""
    try:
        build()(prog_name="scoremux")
    except ScoremuxError as error:
        sys.exit(_fail(str(error)))
    except ModuleNotFoundError as error:
        extra = _EXTRA_OF.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        sys.exit(_fail(f"this command needs {error.name}: pip install 'scoremux[{extra}]'"))


def _about() -> None:
    """Score student answers for many tasks in one mixed batch."""


def _register(app: typer.Typer, entry: EntryPoint) -> None:
    command = entry.load()
    if isinstance(command, typer.Typer):
        app.add_typer(command, name=entry.name)
    else:
        app.command(entry.name)(command)


def _fail(message: str) -> int:
    print(f"scoremux: {message}", file=sys.stderr)
    return 2
